#include "capture.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "capture_object.h"

// libbpf prints through one function for the whole process and gives it no context: each thread has its own place.
static _Thread_local char *said;
static _Thread_local size_t room;

static int note(enum libbpf_print_level level, const char *format, va_list arguments) {
    if (level == LIBBPF_DEBUG || !said || room < 2)
        return 0;
    int written = vsnprintf(said, room, format, arguments);
    if (written > 0) {
        size_t taken = (size_t)written < room ? (size_t)written : room - 1;
        said += taken;
        room -= taken;
    }
    return written;
}

static int keep(int descriptor) {
    int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
    return copy < 0 ? -errno : copy;
}

static int take(struct bpf_object *object, const char *name, int *descriptor, uint8_t tag[8]) {
    struct bpf_program *program = bpf_object__find_program_by_name(object, name);
    if (!program)
        return -ENOENT;
    int copy = keep(bpf_program__fd(program));
    if (copy < 0)
        return copy;
    *descriptor = copy;
    if (!tag)
        return 0;
    struct bpf_prog_info info;
    memset(&info, 0, sizeof info);
    unsigned int length = sizeof info;
    if (bpf_obj_get_info_by_fd(copy, &info, &length))
        return -errno;
    memcpy(tag, info.tag, 8);
    return 0;
}

// Loads the classifiers, or the iterator: one that the kernel does not take must not take the others with it.
static int load(struct apus_capture *capture, int iterator) {
    LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "apus");
    struct bpf_object *object = bpf_object__open_mem(capture_object, sizeof capture_object, &options);
    if (!object)
        return -errno;
    struct bpf_program *program;
    bpf_object__for_each_program(program, object) {
        int is_iterator = strcmp(bpf_program__name(program), "apus_spare") == 0;
        bpf_program__set_autoload(program, is_iterator == iterator);
    }
    struct bpf_map *map = bpf_object__find_map_by_name(object, "spared");
    if (map && !iterator)
        bpf_map__set_autocreate(map, 0);
    int error = bpf_object__load(object);
    if (!error && iterator) {
        error = take(object, "apus_spare", &capture->spare, NULL);
        if (!error) {
            int copy = map ? keep(bpf_map__fd(map)) : -ENOENT;
            if (copy < 0)
                error = copy;
            else
                capture->spared = copy;
        }
    } else if (!error) {
        error = take(object, "apus_egress", &capture->egress, capture->egress_tag);
        if (!error)
            error = take(object, "apus_ingress", &capture->ingress, capture->ingress_tag);
        if (!error)
            error = take(object, "apus_loopback", &capture->loopback, capture->loopback_tag);
    }
    bpf_object__close(object);
    return error;
}

static void close_one(int *descriptor) {
    if (*descriptor >= 0)
        close(*descriptor);
    *descriptor = -1;
}

static void close_spare(struct apus_capture *capture) {
    close_one(&capture->spare);
    close_one(&capture->spared);
}

void apus_capture_close(struct apus_capture *capture) {
    close_one(&capture->egress);
    close_one(&capture->ingress);
    close_one(&capture->loopback);
    close_spare(capture);
}

int apus_capture_load(struct apus_capture *capture, int *error_of_spare, char *log, size_t size) {
    memset(capture, 0, sizeof *capture);
    capture->egress = capture->ingress = capture->loopback = capture->spare = capture->spared = -1;
    if (size > 0)
        log[0] = 0;
    said = log;
    room = size;
    libbpf_set_print(note);
    int error = load(capture, 0);
    if (!error) {
        *error_of_spare = load(capture, 1);
        if (*error_of_spare)
            close_spare(capture);
    } else {
        apus_capture_close(capture);
    }
    said = NULL;
    room = 0;
    return error;
}

int apus_capture_spare(const struct apus_capture *capture, const uint64_t *cookies, size_t count) {
    if (capture->spare < 0)
        return -EOPNOTSUPP;
    size_t filled = 0;
    int error = 0;
    uint32_t one = 1;
    while (filled < count && !error) {
        if (bpf_map_update_elem(capture->spared, &cookies[filled], &one, BPF_ANY))
            error = -errno;
        else
            filled++;
    }
    if (!error) {
        // The iterator runs over the sockets of the namespace of whoever opens it.
        int link = bpf_link_create(capture->spare, 0, BPF_TRACE_ITER, NULL);
        if (link < 0) {
            error = -errno;
        } else {
            int run = bpf_iter_create(link);
            if (run < 0) {
                error = -errno;
            } else {
                char buffer[256];
                ssize_t got;
                do {
                    got = read(run, buffer, sizeof buffer);
                } while (got > 0 || (got < 0 && (errno == EINTR || errno == EAGAIN)));
                if (got < 0)
                    error = -errno;
                close(run);
            }
            close(link);
        }
    }
    for (size_t i = 0; i < filled; i++)
        bpf_map_delete_elem(capture->spared, &cookies[i]);
    return error;
}
