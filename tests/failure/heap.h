/* heap.h: the heap of the cores under test, whose allocations may fail and are all known. */
#ifndef KHO_FAILURE_HEAP_H
#define KHO_FAILURE_HEAP_H

#include <stddef.h>
#include <stdint.h>

/* Allocations that were not released yet; what is known of the first goes to `ret_first`. */
uint64_t heap_live(char *ret_first, size_t size);

#endif
