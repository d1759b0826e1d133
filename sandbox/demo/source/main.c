#include <stdio.h>
#include <stdlib.h>

#include "sieve.h"

int main(int argc, char **argv) {
  long limit = argc > 1 ? strtol(argv[1], NULL, 10) : 100;
  long count = count_primes(limit);
  if (count < 0) return 1;
  printf("%ld primes below %ld\n", count, limit);
  return 0;
}
