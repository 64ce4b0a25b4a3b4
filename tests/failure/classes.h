/* classes.h: the classes of failure, each with its name. */
#ifndef KHO_FAILURE_CLASSES_H
#define KHO_FAILURE_CLASSES_H

#include "failure.h"

enum { CLASSES_MAX = 96 };

/* All of them; returns how many. */
uint32_t classes_all(struct failure_class *ret_classes);

#endif
