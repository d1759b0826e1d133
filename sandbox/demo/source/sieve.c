#include <stdlib.h>

#include "sieve.h"

long count_primes(long limit) {
  char *composite = calloc(limit > 0 ? (size_t)limit : 1, 1);
  long count = 0;
  if (composite == NULL) return -1;
  for (long n = 2; n < limit; n++) {
    if (composite[n]) continue;
    count++;
    for (long multiple = n * n; multiple < limit; multiple += n) composite[multiple] = 1;
  }
  free(composite);
  return count;
}
