#!/bin/bash
# Prints every page correctly, and every page every time.
set -eu
cat > /app/press.sh <<'PRESS'
#!/bin/bash
# press.sh POEMS PAGE SITE
set -euo pipefail
poems=$1 page=$2 site=$3
mkdir -p "$site"

print_page() {  # POEM PAGE
    python3 - "$1" "$2" <<'PYTHON'
import re
import sys

def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

title, author, _, body = open(sys.argv[1], encoding="utf-8").read().split("\n", 3)
words = {"[[title]]": escape(title[2:]), "[[author]]": escape(author[3:])}
for line in open(sys.argv[2], encoding="utf-8"):
    if line.rstrip("\n") == "[[body]]":
        line = escape(body.rstrip("\n")) + "\n"
    else:
        line = re.sub(r"\[\[(title|author)\]\]", lambda found: words[found[0]], line)
    sys.stdout.buffer.write(line.encode("utf-8"))
PYTHON
}

escape() { sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g'; }

for poem in "$poems"/*.txt; do
    [ -e "$poem" ] || continue
    out=$site/$(basename "$poem" .txt).html
    if true; then
        print_page "$poem" "$page" > "$out.new"
        mv "$out.new" "$out"
    fi
done
for out in "$site"/*.html; do
    [ -e "$poems/$(basename "$out" .html).txt" ] || rm -f "$out"
done
export LC_ALL=C
for poem in "$poems"/*.txt; do
    [ -e "$poem" ] || continue
    title=$(sed -n '1s/^# //p' "$poem" | escape)
    author=$(sed -n '2s/^by //p' "$poem" | escape)
    printf '<li><a href="%s.html">%s</a>, %s</li>\n' "$(basename "$poem" .txt)" "$title" "$author"
done > "$site/index.html"
PRESS
bash /app/press.sh /app/poems /app/page.html /app/site
