/* The bellows: they keep the time. */
#include <organ.h>

static double beat_ms = 1000;
static int elapsed;

void set_tempo(int beats_per_minute)
{
    beat_ms = 60000 / beats_per_minute;
}

double now(void)
{
    return elapsed;
}

/* Let so many beats pass; returns how long they took. */
double advance(double beats)
{
    double took = beats * beat_ms;
    elapsed += took;
    return took;
}
