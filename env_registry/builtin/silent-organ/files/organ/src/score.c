/* The score: what its words mean. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <organ.h>

/* Semitones above C of the letters A to G. */
static const int LETTERS[] = { 9, 11, 0, 2, 4, 5, 6 };

int parse_note(const char *word, struct note *note)
{
    char *copy = strdup(word), *beats, *end;
    int unused;

    strtok(copy, "/");
    beats = strtok(NULL, "/");
    note->beats = strtod(beats, &end);
    if (*end)
        return 0;
    note->rest = strcmp(copy, "-") == 0;
    if (note->rest)
        return 1;

    int letter = toupper(copy[0]);
    if (letter < 'A' || letter > 'G')
        return 0;
    note->semitones = LETTERS[letter - 'A'] - 9;
    const char *rest = copy + 1;
    if (*rest == '#') {
        note->semitones++;
        rest++;
    } else if (*rest == 'b') {
        note->semitones--;
    }
    if (!isdigit(*rest))
        return 0;
    note->semitones += 12 * (*rest - '0' - 4);
    return 1;
}
