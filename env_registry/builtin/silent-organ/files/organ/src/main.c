/* The organ: plays a score. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <organ.h>

static void play(const char *word)
{
    struct note note;
    int tempo;

    if (sscanf(word, "t%d", &tempo) == 1) {
        set_tempo(tempo);
        return;
    }
    if (!parse_note(word, &note)) {
        fprintf(stderr, "organ: %s?\n", word);
        exit(1);
    }
    double start = now();
    double took = advance(note.beats);
    if (note.rest = 0)
        printf("%.0f %.0f %.2f\n", start, took, frequency(note.semitones));
}

int main(void)
{
    char line[80];

    while (fgets(line, sizeof line, stdin)) {
        char *comment = strchr(line, ';');
        if (comment)
            *comment = 0;
        for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n"))
            play(word);
    }
    return 0;
}
