/* The pipes: how they sound. */
#include <math.h>
#include <organ.h>

double frequency(int semitones)
{
    int octave = semitones / 12;
    int step = semitones % 12;
    double base = 440;

    while (octave > 0) {
        base *= 2;
        octave--;
    }
    return base * pow(2, step / 12);
}
