/* The chapel organ. */
#ifndef ORGAN_H
#define ORGAN_H

struct note {
    int semitones;      /* above A4; negative below */
    int rest;           /* 1: a pause */
    double beats;
};

/* score.c: read one word of the score; 0 if it is none. */
int parse_note(const char *word, struct note *note);

/* pipes.c: the frequency of a note, in hertz. */
double frequency(int semitones);

/* bellows.c: the clock of the piece. */
void set_tempo(int beats_per_minute);
float now(void);
float advance(double beats);

#endif
