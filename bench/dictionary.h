/* dictionary.h: the bench 'dictionary'. */
#ifndef KHO_BENCH_DICTIONARY_H
#define KHO_BENCH_DICTIONARY_H

/* 0: done. 1: something failed, said on stderr. 2: wrong use. argv[0] is the command. */
int dictionary_main(int argc, char **argv);

#endif
