// How many processors there are to use: the thread's affinity, and on Linux what the control groups that the process is in
// grant of processor time. https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max) and
// https://docs.kernel.org/scheduler/sched-bwc.html (cpu.cfs_quota_us, cpu.cfs_period_us).

#define _GNU_SOURCE

#include "CDiTKernels.h"

#include <unistd.h>
#ifdef __linux__
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The calling thread's affinity, 0 where it cannot be asked. The kernel refuses a set smaller than its own, which may be
// larger than cpu_set_t's 1024 processors.
static int processors_of_affinity(void) {
  for (int limit = 1024; limit <= 1 << 20; limit *= 2) {
    cpu_set_t *set = CPU_ALLOC(limit);
    if (!set) return 0;
    const size_t size = CPU_ALLOC_SIZE(limit);
    const int status = sched_getaffinity(0, size, set), error = errno;
    const int count = status == 0 ? CPU_COUNT_S(size, set) : 0;
    CPU_FREE(set);
    if (status == 0 || error != EINVAL) return count;
  }
  return 0;
}

enum { PATH = 4096, LINE = 3 * PATH };

// Whether `word` is one of the words of a list that `separator` separates.
static int contains(const char *list, char separator, const char *word) {
  const size_t length = strlen(word);
  for (const char *at = list; at; at = strchr(at, separator) ? strchr(at, separator) + 1 : NULL) {
    if (strncmp(at, word, length) == 0 && (at[length] == separator || at[length] == 0)) return 1;
  }
  return 0;
}

// The first two numbers of a file, of which the first may be "max" (then -1). Whether there is one.
static int read_numbers(const char *folder, const char *name, long long numbers[2]) {
  char path[PATH + 64], text[128];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "re");
  if (!file) return 0;
  const int found = fgets(text, sizeof text, file) != NULL;
  fclose(file);
  if (!found) return 0;
  const int is_max = strncmp(text, "max", 3) == 0;
  char *end = text + 3;
  numbers[0] = is_max ? -1 : strtoll(text, &end, 10);
  if (end == text) return 0;
  numbers[1] = strtoll(end, NULL, 10);
  return 1;
}

// The processors that one group's quota is worth, 0 where it has none.
static double quota_of_group(const char *folder, int is_v2) {
  long long quota[2] = {-1, 0}, period[2] = {0, 0};
  if (is_v2) {
    if (!read_numbers(folder, "cpu.max", quota)) return 0;
    period[0] = quota[1];
  } else if (!read_numbers(folder, "cpu.cfs_quota_us", quota) || !read_numbers(folder, "cpu.cfs_period_us", period)) {
    return 0;
  }
  return quota[0] > 0 && period[0] > 0 ? (double)quota[0] / (double)period[0] : 0;
}

// Where the process is in the hierarchy, as /proc/self/cgroup says: "0::/path" (v2) or "4:cpu,cpuacct:/path" (v1).
static int group_path(const char *root, int is_v2, char path[PATH]) {
  char name[PATH], line[LINE];
  snprintf(name, sizeof name, "%s/proc/self/cgroup", root);
  FILE *file = fopen(name, "re");
  int found = 0;
  while (file && !found && fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    char *controllers = strchr(line, ':');
    char *place = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!place) continue;
    *place++ = 0;
    controllers++;
    found = is_v2 ? *controllers == 0 : contains(controllers, ',', "cpu");
    if (found) snprintf(path, PATH, "%s", place);
  }
  if (file) fclose(file);
  return found;
}

// The tightest quota from the process's group up to the hierarchy's mount, 0 where there is none. A mount may show only a
// part of the hierarchy (a container's): `mounted` is that part's place in it.
static double quota_under(const char *root, const char *mount, const char *mounted, int is_v2) {
  char path[PATH], folder[PATH];
  if (!group_path(root, is_v2, path)) return 0;
  const size_t length = strcmp(mounted, "/") == 0 ? 0 : strlen(mounted);
  const char *below = path;
  if (length > 0) {
    // A process outside what is mounted is held by the mounted groups only as far as can be seen: the mount's own.
    const int is_inside = strncmp(path, mounted, length) == 0 && (path[length] == '/' || path[length] == 0);
    below = is_inside ? path + length : "";
  }
  const int base = snprintf(folder, sizeof folder, "%s%s", root, mount);
  const int whole = snprintf(folder, sizeof folder, "%s%s%s", root, mount, below);
  if (base < 0 || whole < base || whole >= PATH) return 0;
  double tightest = 0;
  for (char *end = folder + whole;; *end = 0) {
    const double quota = quota_of_group(folder, is_v2);
    if (quota > 0 && (tightest == 0 || quota < tightest)) tightest = quota;
    if (end <= folder + base) return tightest;
    do end--;
    while (end > folder + base && *end != '/');
  }
}

double dit_quota_processors(const char *root) {
  char name[PATH], line[LINE];
  snprintf(name, sizeof name, "%s/proc/self/mountinfo", root);
  FILE *file = fopen(name, "re");
  double tightest = 0;
  // "36 35 98:0 /mounted /mount options… - type source superoptions"
  while (file && fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    char mounted[PATH], mount[PATH], type[64], options[PATH];
    char *rest = strstr(line, " - ");
    if (!rest || sscanf(line, "%*s %*s %*s %4095s %4095s", mounted, mount) != 2) continue;
    if (sscanf(rest, " - %63s %*s %4095s", type, options) != 2) continue;
    const int is_v2 = strcmp(type, "cgroup2") == 0;
    if (!is_v2 && !(strcmp(type, "cgroup") == 0 && contains(options, ',', "cpu"))) continue;
    const double quota = quota_under(root, mount, mounted, is_v2);
    if (quota > 0 && (tightest == 0 || quota < tightest)) tightest = quota;
  }
  if (file) fclose(file);
  return tightest;
}
#else
static int processors_of_affinity(void) { return 0; }
double dit_quota_processors(const char *root) {
  (void)root;
  return 0;
}
#endif

int dit_processors_of_quota(long processors, double quota) {
  // A part of a processor's time is worth a worker: it runs while the others do, and the group is held back together.
  const long granted = quota > 0 && quota < 1 << 20 ? (long)quota + (quota > (double)(long)quota) : processors;
  return (int)(granted < processors ? granted : processors);
}

int dit_available_processors(void) {
  long processors = processors_of_affinity();
  if (processors < 1) processors = sysconf(_SC_NPROCESSORS_ONLN);
  if (processors < 1) processors = 1;
  return dit_processors_of_quota(processors, dit_quota_processors(""));
}
