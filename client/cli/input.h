/* input.h: whole values and keys from the command line: an argument, a file, standard input. */
#ifndef KHO_CLI_INPUT_H
#define KHO_CLI_INPUT_H

#include <stddef.h>
#include <stdint.h>

struct args;

struct input {
    const void *bytes;
    size_t len;
    void *owned; /* to be freed, or NULL */
};

/* The value behind "TEXT", "-" (standard input) or "@FILE". 0, or an exit code after a sentence on
 * stderr. `bytes` of an argument are borrowed from it. */
int input_value(const char *argument, struct input *ret_input);
/* The key behind an argument, percent-decoded with --escaped. Same results. */
int input_key(const struct args *args, const char *argument, struct input *ret_input);
void input_fini(struct input *input);

#endif
