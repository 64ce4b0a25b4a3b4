/* unit.h: cmocka with the headers that it wants before it. */
#ifndef KHO_TESTS_UNIT_H
#define KHO_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h comes last of these. */
#include <cmocka.h>

#endif
