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

static int take(struct bpf_object *object, const char *name, struct apus_program *taken) {
    struct bpf_program *program = bpf_object__find_program_by_name(object, name);
    if (!program)
        return -ENOENT;
    int copy = keep(bpf_program__fd(program));
    if (copy < 0)
        return copy;
    taken->descriptor = copy;
    struct bpf_prog_info info;
    memset(&info, 0, sizeof info);
    unsigned int length = sizeof info;
    if (bpf_obj_get_info_by_fd(copy, &info, &length))
        return -errno;
    memcpy(taken->tag, info.tag, sizeof taken->tag);
    return 0;
}

struct part {
    const char *name;
    size_t place; // of its struct apus_program
};

#define PART(name) {"apus_" #name, offsetof(struct apus_capture, name)}
static const struct part capturing[] = {PART(egress), PART(ingress), PART(loopback), PART(probe), PART(line), {NULL, 0}};
static const struct part guarding[] = {PART(forged), {NULL, 0}};
static const struct part sparing[] = {{"apus_spare", 0}, {NULL, 0}};

static struct apus_program *at(struct apus_capture *capture, const struct part *part) {
    return (struct apus_program *)((char *)capture + part->place);
}

static int names(const struct part *parts, const char *name) {
    for (; parts->name; parts++)
        if (strcmp(parts->name, name) == 0)
            return 1;
    return 0;
}

// Loads some of the programs: one that the kernel does not take must not take the others with it.
static int load(struct apus_capture *capture, const struct part *parts) {
    LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "apus");
    struct bpf_object *object = bpf_object__open_mem(capture_object, sizeof capture_object, &options);
    if (!object)
        return -errno;
    struct bpf_program *program;
    bpf_object__for_each_program(program, object) {
        bpf_program__set_autoload(program, names(parts, bpf_program__name(program)));
    }
    int iterator = parts == sparing;
    struct bpf_map *map = bpf_object__find_map_by_name(object, "spared");
    if (map && !iterator)
        bpf_map__set_autocreate(map, 0);
    int error = bpf_object__load(object);
    if (!error && iterator) {
        struct apus_program taken = {-1, {0}};
        error = take(object, "apus_spare", &taken);
        capture->spare = taken.descriptor;
        if (!error) {
            int copy = map ? keep(bpf_map__fd(map)) : -ENOENT;
            if (copy < 0)
                error = copy;
            else
                capture->spared = copy;
        }
    }
    for (const struct part *part = parts; !error && !iterator && part->name; part++)
        error = take(object, part->name, at(capture, part));
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
    for (const struct part *part = capturing; part->name; part++)
        close_one(&at(capture, part)->descriptor);
    close_one(&capture->forged.descriptor);
    close_spare(capture);
}

static void begin(struct apus_capture *capture, char *log, size_t size) {
    memset(capture, 0, sizeof *capture);
    for (const struct part *part = capturing; part->name; part++)
        at(capture, part)->descriptor = -1;
    capture->forged.descriptor = capture->spare = capture->spared = -1;
    if (size > 0)
        log[0] = 0;
    said = log;
    room = size;
    libbpf_set_print(note);
}

static int end(struct apus_capture *capture, int error) {
    if (error)
        apus_capture_close(capture);
    said = NULL;
    room = 0;
    return error;
}

int apus_capture_load(struct apus_capture *capture, int *error_of_spare, char *log, size_t size) {
    begin(capture, log, size);
    int error = load(capture, capturing);
    if (!error) {
        *error_of_spare = load(capture, sparing);
        if (*error_of_spare)
            close_spare(capture);
    }
    return end(capture, error);
}

int apus_capture_load_forged(struct apus_capture *capture, char *log, size_t size) {
    begin(capture, log, size);
    return end(capture, load(capture, guarding));
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
