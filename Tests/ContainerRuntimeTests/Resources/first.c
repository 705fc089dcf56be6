/*
 * All that is in the test's image.
 *
 *   first                           waits for a signal: what holds a pod's sandbox
 *   first ADDRESS PORT MARKER       connects before anything else, sends the marker, then waits for a signal
 *
 * There is no second try: a connection that the mesh lets fail fails the test, by the container's exit status.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return 1;
}

static int dial(const char *address, const char *port)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(atoi(port))};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    int is_v6 = inet_pton(AF_INET6, address, &v6.sin6_addr) == 1;

    if (!is_v6 && inet_pton(AF_INET, address, &v4.sin_addr) != 1) {
        errno = EINVAL;
        return -1;
    }
    int s = socket(is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0)
        return -1;
    if (is_v6)
        return connect(s, (struct sockaddr *)&v6, sizeof v6) == 0 ? s : -1;
    return connect(s, (struct sockaddr *)&v4, sizeof v4) == 0 ? s : -1;
}

int main(int argc, char **argv)
{
    if (argc == 4) {
        int s = dial(argv[1], argv[2]);
        if (s < 0)
            return fail("connect");
        if (write(s, argv[3], strlen(argv[3])) != (ssize_t)strlen(argv[3]))
            return fail("write");
        if (shutdown(s, SHUT_WR) != 0)
            return fail("shutdown");
        /* What the server says is who it took us for; whoever reads the container's log may want to know. */
        char answer[128];
        ssize_t count;
        while ((count = read(s, answer, sizeof answer)) > 0)
            if (write(STDOUT_FILENO, answer, count) < 0)
                return fail("print");
        if (count < 0)
            return fail("read");
        close(s);
    }
    /* The first process of a pid namespace gets no signal that it does not ask for. */
    sigset_t ends;
    int number;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    return sigwait(&ends, &number) == 0 ? 0 : 1;
}
