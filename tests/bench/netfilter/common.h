/* A yardstick: for every line on stdin it does its work once and prints the milliseconds of CPU time that took. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static void serve(void (*work)(void))
{
    char line[16];
    while (fgets(line, sizeof line, stdin)) {
        struct timespec from, to;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
        work();
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
        printf("%.4f\n", (to.tv_sec - from.tv_sec) * 1e3 + (to.tv_nsec - from.tv_nsec) / 1e6);
        fflush(stdout);
    }
}
