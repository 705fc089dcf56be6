// relay: what stands at the end of capture in the capture benchmark: accepts, dials on, passes bytes. Linux, libc alone.
//
//   relay captured            listens on 15001 and dials where a connection wanted to go
//   relay direct IP PORTS...  listens on these ports of 127.0.0.1 and dials IP at the same port
//
// Its sockets are as ztunnel's: mark 0x539, transparent, and sealed (SO_BUSY_POLL_BUDGET 61).
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 128 * 1024, ORIGINAL_DST = 80 };

struct side {
  int fd, over, waits; // over: its end of input was passed on; waits: the other side is full
  struct side *other;
  char *held;          // what the other side had no room for
  size_t from, to;
};

static int poller;
static char buffer[CHUNK];

static void die(const char *what) {
  fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
  exit(1);
}
static void own(int fd) {
  int mark = 0x539, one = 1, seal = 61;
  if (setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark)) die("SO_MARK");
  if (setsockopt(fd, SOL_IP, IP_TRANSPARENT, &one, sizeof one)) die("IP_TRANSPARENT");
  if (setsockopt(fd, SOL_SOCKET, 70, &seal, sizeof seal)) die("SO_BUSY_POLL_BUDGET");
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
}
static int listens(const char *ip, int port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, ip, &a.sin_addr);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  own(fd);
  if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 4096)) die("listen");
  return fd;
}
static void watch(int operation, struct side *s, uint32_t events) {
  struct epoll_event e = {.events = events, .data.ptr = s};
  epoll_ctl(poller, operation, s->fd, &e);
}
static void end(struct side *s) {
  struct side *o = s->other;
  close(s->fd);
  close(o->fd);
  s->fd = o->fd = -1; // freed when this round of events is over
}
// Passes on what is held for the other side. 0: all of it.
static int pass(struct side *s) {
  while (s->from < s->to) {
    ssize_t n = send(s->other->fd, s->held + s->from, s->to - s->from, MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN || errno == ENOTCONN ? 1 : -1;
    s->from += n;
  }
  return 0;
}
static void pump(struct side *s) {
  if (s->fd < 0) return;
  if (s->waits) {
    int left = pass(s);
    if (left < 0) return end(s);
    if (left) return;
    free(s->held);
    s->held = 0;
    s->waits = 0;
  }
  while (!s->over) {
    ssize_t n = recv(s->fd, buffer, CHUNK, 0);
    if (n < 0) {
      if (errno != EAGAIN) end(s);
      return;
    }
    if (n == 0) {
      s->over = 1;
      if (s->other->over) return end(s);
      shutdown(s->other->fd, SHUT_WR);
      return;
    }
    s->held = buffer;
    s->from = 0;
    s->to = n;
    int left = pass(s);
    if (left < 0) return end(s);
    if (left) {
      s->held = malloc(s->to - s->from);
      memcpy(s->held, buffer + s->from, s->to - s->from);
      s->to -= s->from;
      s->from = 0;
      s->waits = 1;
      return;
    }
    s->held = 0;
  }
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  struct rlimit l = {65536, 65536};
  setrlimit(RLIMIT_NOFILE, &l);
  poller = epoll_create1(0);
  int direct = argc > 3 && !strcmp(argv[1], "direct");
  if (!direct && (argc < 2 || strcmp(argv[1], "captured"))) { fprintf(stderr, "usage: see the head of relay.c\n"); return 2; }
  static struct side listeners[64];
  int count = direct ? argc - 3 : 1;
  for (int i = 0; i < count && i < 64; i++) {
    listeners[i].fd = direct ? listens("127.0.0.1", atoi(argv[3 + i])) : listens("0.0.0.0", 15001);
    watch(EPOLL_CTL_ADD, &listeners[i], EPOLLIN);
  }
  for (;;) {
    struct epoll_event events[256];
    struct side *finished[512];
    int ended = 0, got = epoll_wait(poller, events, 256, -1);
    for (int i = 0; i < got; i++) {
      struct side *s = events[i].data.ptr;
      if (s >= listeners && s < listeners + 64) {
        int fd;
        while ((fd = accept4(s->fd, 0, 0, SOCK_NONBLOCK)) >= 0) {
          struct sockaddr_in to;
          socklen_t size = sizeof to;
          if (direct || getsockopt(fd, SOL_IP, ORIGINAL_DST, &to, &size)) getsockname(fd, (struct sockaddr *)&to, &size);
          if (direct) inet_pton(AF_INET, argv[2], &to.sin_addr);
          int on = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
          own(on);
          setsockopt(on, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
          setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
          if (connect(on, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) { close(on); close(fd); continue; }
          struct side *pair = calloc(2, sizeof *pair);
          pair[0] = (struct side){.fd = fd, .other = &pair[1]};
          pair[1] = (struct side){.fd = on, .other = &pair[0]};
          watch(EPOLL_CTL_ADD, &pair[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
          watch(EPOLL_CTL_ADD, &pair[1], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
        }
        continue;
      }
      if (s->fd < 0) continue;
      pump(s);
      if (s->fd >= 0) pump(s->other);
      if (s->fd < 0 && ended < 512) finished[ended++] = s < s->other ? s : s->other;
    }
    for (int i = 0; i < ended; i++) {
      if (finished[i]->waits) free(finished[i]->held);
      if (finished[i]->other->waits) free(finished[i]->other->held);
      free(finished[i]);
    }
  }
}
