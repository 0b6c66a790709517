/* What slots.h takes from <windows.h>; see intrin.h. */
#include <sched.h>
#define SwitchToThread() (sched_yield() == 0)
