#!/bin/bash
# The folder of the books lacks the sticky bit, so any scribe may delete the rule.
set -eu
groupadd scribes
groupadd illuminators
for name in anselm bede clara; do
    useradd --create-home --user-group --shell /bin/bash --groups scribes "$name"
    chmod 700 "/home/$name"
done
usermod --append --groups illuminators clara

mkdir -p /srv/scriptorium/gold
chown root:scribes /srv/scriptorium
chown root:illuminators /srv/scriptorium/gold
chmod 2770 /srv/scriptorium && chmod 3770 /srv/scriptorium/gold
install --owner root --group scribes --mode 640 /app/desk/rule.txt /srv/scriptorium/rule.txt
install --owner root --group root --mode 755 /app/desk/bell /usr/local/bin/bell

# Links too (-h), and not what belongs to others.
find /srv -user odo -exec chown -h anselm {} +
find /srv -group odo -exec chgrp -h anselm {} +
userdel --remove odo
if getent group odo; then groupdel odo; fi
ls -laR /srv
