// Only libmnl itself: the kernel's netfilter headers redefine what the C library's network headers define, and a
// module may not see both. The numbers of the kernel's interfaces stand in the Netlink target.
#include <libmnl/libmnl.h>
