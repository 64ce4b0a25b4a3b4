/* frames.h: names for the return addresses that a process printed when it died. */
#ifndef KHO_SIM_FRAMES_H
#define KHO_SIM_FRAMES_H

#include <stddef.h>

/* Prints the caller's frames to stderr, as only a signal handler may. */
void frames_print(void);
/* In `text`, NUL-terminated in `size` bytes, each line of this program's frames is replaced by the
 * function and its place in the source, those of the libraries and of the end itself are left out.
 * Without addr2line (binutils), nothing changes. */
void frames_resolve(char *text, size_t size);

#endif
