/* The first process of a pod: waits until it is told to end. */
#include <signal.h>
#include <unistd.h>
static void end(int signal) { _exit(signal == SIGTERM ? 0 : 1); }
int main(void) {
    signal(SIGTERM, end);
    for (;;) pause();
}
