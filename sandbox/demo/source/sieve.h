#ifndef SIEVE_H
#define SIEVE_H

/* How many primes are below `limit`; -1 where there is no memory to find out. */
long count_primes(long limit);

#endif
