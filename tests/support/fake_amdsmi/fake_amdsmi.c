/* A stand-in for AMD's libamd_smi.so, for tests on machines without a GPU. The real Python package amdsmi loads it.

   It answers what the file named by FAKE_AMDSMI_SCENARIO says, and reads it again whenever it changes. A line each:

     gpu D UUID BUS FUNCTION MEMORY_MIB NAME   (a processor; those of one bus are partitions of one device)
     set D activity|memactivity|used_mib|power_w|cap_uw|energy|resolution|hotspot|edge|vramtemp|gfx_mhz|mem_mhz|
           correctable|uncorrectable|ticks|power_ticks|thermal_ticks N
     proc D PID VRAM_MIB GFX_NS
     partition MODE                            (what amdsmi_get_gpu_compute_partition says)
     code D FUNCTION CODE                      (D -1: whatever the device; FUNCTION *: all)

   Structures are those of amdsmi_wrapper.py 7.0.2. Functions that are not here are made by `build`, and refuse. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdint.h>
#include <sys/stat.h>
#include <pthread.h>

#define PROCESSORS 64
enum { OK = 0, INVALID = 1, REFUSED = 2, NOT_INITIALISED = 32, TOO_SMALL = 41 };

typedef struct { char uuid[64], name[96]; int bus, function; uint64_t memory; long long v[20]; } Gpu;
typedef struct { int device; uint32_t pid; uint64_t vram, gfx; } Process;
typedef struct { int device; char name[80]; int code; } Code;
static const char *NAMES[] = { "activity", "memactivity", "used_mib", "power_w", "cap_uw", "energy", "resolution", "hotspot",
  "edge", "vramtemp", "gfx_mhz", "mem_mhz", "correctable", "uncorrectable", "ticks", "power_ticks", "thermal_ticks" };
enum { ACTIVITY, MEMACTIVITY, USED, POWER, CAP, ENERGY, RESOLUTION, HOTSPOT, EDGE, VRAMTEMP, GFX, MEM, CORRECTABLE,
  UNCORRECTABLE, TICKS, POWER_TICKS, THERMAL_TICKS, COUNT };

static struct { int gpus, processes, codes, init; char partition[32]; Gpu gpu[PROCESSORS]; Process process[1024]; Code code[256]; } S;
static int initialised = 0;
static struct timespec read_at; static ino_t read_inode;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void parse(char *line) {
  char word[32] = "", name[96] = ""; int d = 0, a = 0, b = 0, offset = 0; long long n = 0, m = 0; unsigned pid = 0;
  if (sscanf(line, "%31s", word) != 1) return;
  if (!strcmp(word, "gpu") && sscanf(line, "%*s %d %63s %d %d %lld %n", &d, name, &a, &b, &n, &offset) == 5) {
    Gpu *g = &S.gpu[d]; strcpy(g->uuid, name); g->bus = a; g->function = b; g->memory = (uint64_t)n << 20;
    snprintf(g->name, sizeof g->name, "%s", line + offset); g->v[RESOLUTION] = 15; if (d >= S.gpus) S.gpus = d + 1;
  } else if (!strcmp(word, "set") && sscanf(line, "%*s %d %95s %lld", &d, name, &n) == 3) {
    for (int i = 0; i < COUNT; i++) if (!strcmp(NAMES[i], name)) { S.gpu[d].v[i] = n; return; }
    fprintf(stderr, "fake_amdsmi: no such value: %s\n", name); abort();
  } else if (!strcmp(word, "proc") && sscanf(line, "%*s %d %u %lld %lld", &d, &pid, &n, &m) == 4) {
    Process *p = &S.process[S.processes++]; p->device = d; p->pid = pid; p->vram = (uint64_t)n << 20; p->gfx = m;
  } else if (!strcmp(word, "partition")) sscanf(line, "%*s %31s", S.partition);
  else if (!strcmp(word, "init")) sscanf(line, "%*s %d", &S.init);
  else if (!strcmp(word, "code")) { Code *c = &S.code[S.codes++]; sscanf(line, "%*s %d %79s %d", &c->device, c->name, &c->code); }
  else { fprintf(stderr, "fake_amdsmi: not understood: %s\n", line); abort(); }
}

static void refresh(void) {
  const char *path = getenv("FAKE_AMDSMI_SCENARIO"); struct stat now; char line[512]; FILE *file;
  if (!path || stat(path, &now)) return;
  if (now.st_ino == read_inode && now.st_mtim.tv_sec == read_at.tv_sec && now.st_mtim.tv_nsec == read_at.tv_nsec) return;
  file = fopen(path, "r"); if (!file) return;
  memset(&S, 0, sizeof S);
  while (fgets(line, sizeof line, file)) { line[strcspn(line, "\n")] = 0; parse(line); }
  fclose(file); read_at = now.st_mtim; read_inode = now.st_ino;
}

static int begin(const char *name, void *h, Gpu **g) {
  int code = OK, d = (int)((long)h - 0x1000);
  pthread_mutex_lock(&lock); refresh();
  for (int i = 0; i < S.codes; i++)
    if ((S.code[i].device == -1 || (h && S.code[i].device == d)) && (!strcmp(S.code[i].name, "*") || !strcmp(S.code[i].name, name)))
      code = S.code[i].code;
  pthread_mutex_unlock(&lock);
  if (!initialised) return NOT_INITIALISED;
  if (!code && g) { if (d < 0 || d >= S.gpus) return INVALID; *g = &S.gpu[d]; }
  return code;
}
#define DEVICE(NAME) Gpu *g = NULL; int code_ = begin(#NAME, h, &g); if (code_) return code_

int amdsmi_init(uint64_t flags) { (void)flags; pthread_mutex_lock(&lock); refresh(); int code = S.init; pthread_mutex_unlock(&lock); initialised = !code; return code; }
int amdsmi_shut_down(void) { initialised = 0; return OK; }
int amdsmi_get_socket_handles(uint32_t *count, void **out) {
  int code = begin("amdsmi_get_socket_handles", NULL, NULL); uint32_t found = 0; if (code) return code;
  for (int i = 0; i < S.gpus; i++) {
    if (S.gpu[i].function) continue;
    if (out) out[found] = (void *)(0x2000L + S.gpu[i].bus);
    found++;
  }
  *count = found; return OK;
}
int amdsmi_get_processor_handles(void *socket, uint32_t *count, void **out) {
  int code = begin("amdsmi_get_processor_handles", NULL, NULL); uint32_t found = 0; if (code) return code;
  for (int i = 0; i < S.gpus; i++) if (S.gpu[i].bus == (long)socket - 0x2000) { if (out) out[found] = (void *)(0x1000L + i); found++; }
  *count = found; return OK;
}
int amdsmi_get_gpu_device_uuid(void *h, uint32_t *length, char *out) { DEVICE(amdsmi_get_gpu_device_uuid); if (*length < 38) return TOO_SMALL; snprintf(out, *length, "%s", g->uuid); return OK; }
int amdsmi_get_gpu_device_bdf(void *h, uint64_t *out) { DEVICE(amdsmi_get_gpu_device_bdf); *out = (uint64_t)g->function | (uint64_t)g->bus << 8; return OK; }
int amdsmi_get_gpu_compute_partition(void *h, char *out, uint32_t length) { DEVICE(amdsmi_get_gpu_compute_partition); snprintf(out, length, "%s", S.partition); return OK; }
int amdsmi_get_gpu_memory_total(void *h, uint32_t type, uint64_t *out) { (void)type; DEVICE(amdsmi_get_gpu_memory_total); *out = g->memory; return OK; }
int amdsmi_get_gpu_memory_usage(void *h, uint32_t type, uint64_t *out) { (void)type; DEVICE(amdsmi_get_gpu_memory_usage); *out = (uint64_t)g->v[USED] << 20; return OK; }
typedef struct { uint32_t gfx, umc, mm, reserved[13]; } Activity;
int amdsmi_get_gpu_activity(void *h, Activity *out) { DEVICE(amdsmi_get_gpu_activity); memset(out, 0, sizeof *out); out->gfx = g->v[ACTIVITY]; out->umc = g->v[MEMACTIVITY]; out->mm = 0xFFFF; return OK; }
typedef struct { uint64_t socket; uint32_t current, average; uint64_t gfx_mv, soc_mv, mem_mv; uint32_t limit, padding; uint64_t reserved[18]; } Power;
int amdsmi_get_power_info(void *h, Power *out) { DEVICE(amdsmi_get_power_info); memset(out, 0, sizeof *out); out->socket = out->current = g->v[POWER]; out->average = 0xFFFF; return OK; }
typedef struct { uint64_t cap, standard, dpm, low, high, reserved[3]; } Cap;
int amdsmi_get_power_cap_info(void *h, uint32_t sensor, Cap *out) { (void)sensor; DEVICE(amdsmi_get_power_cap_info); memset(out, 0, sizeof *out); out->cap = g->v[CAP]; return OK; }
int amdsmi_get_energy_count(void *h, uint64_t *count, float *resolution, uint64_t *at) { DEVICE(amdsmi_get_energy_count); *count = g->v[ENERGY]; *resolution = g->v[RESOLUTION]; *at = 1; return OK; }
int amdsmi_get_temp_metric(void *h, uint32_t sensor, uint32_t metric, int64_t *out) {
  (void)metric; DEVICE(amdsmi_get_temp_metric); long long value = sensor == 1 ? g->v[HOTSPOT] : sensor == 0 ? g->v[EDGE] : sensor == 2 ? g->v[VRAMTEMP] : 0;
  if (!value) return REFUSED;
  *out = value; return OK;
}
typedef struct { uint32_t clk, low, high; uint8_t locked, deep, padding[2]; uint32_t reserved[4]; } Clock;
int amdsmi_get_clock_info(void *h, uint32_t kind, Clock *out) { DEVICE(amdsmi_get_clock_info); memset(out, 0, sizeof *out); out->clk = kind == 4 ? g->v[MEM] : g->v[GFX]; out->low = out->high = 0xFFFFFFFF; return OK; }
typedef struct { char name[256]; uint32_t pid, padding; uint64_t mem, gfx, enc; uint32_t reserved1[12]; uint64_t gtt, cpu, vram; uint32_t reserved2[10]; char container[256]; uint32_t occupancy, reserved3[11]; } ProcessInfo;
int amdsmi_get_gpu_process_list(void *h, uint32_t *count, ProcessInfo *out) {
  DEVICE(amdsmi_get_gpu_process_list); uint32_t found = 0; int d = (int)((long)h - 0x1000); (void)g;
  for (int i = 0; i < S.processes; i++) {
    Process *p = &S.process[i]; if (p->device != d || found >= *count) continue;
    memset(&out[found], 0, sizeof *out); strcpy(out[found].name, "python"); out[found].pid = p->pid;
    out[found].mem = out[found].vram = p->vram; out[found].gfx = p->gfx; out[found].occupancy = 0xFFFFFFFF; found++;
  }
  *count = found; return OK;
}
typedef struct { char market[256]; uint32_t vendor_id; char vendor[256]; uint32_t subvendor; uint64_t device; uint32_t revision; char serial[256]; uint32_t oam, units, padding; uint64_t target; uint32_t subsystem, reserved[21]; } Asic;
int amdsmi_get_gpu_asic_info(void *h, Asic *out) { DEVICE(amdsmi_get_gpu_asic_info); memset(out, 0, sizeof *out); strcpy(out->market, g->name); strcpy(out->vendor, "Advanced Micro Devices, Inc. [AMD/ATI]"); strcpy(out->serial, "0x1234"); out->target = 0x942; return OK; }
typedef struct { char version[256], date[256], name[256]; } Driver;
int amdsmi_get_gpu_driver_info(void *h, Driver *out) { DEVICE(amdsmi_get_gpu_driver_info); (void)g; memset(out, 0, sizeof *out); strcpy(out->version, "6.14.14"); strcpy(out->name, "amdgpu"); return OK; }
int amdsmi_get_gpu_total_ecc_count(void *h, uint64_t *out) { DEVICE(amdsmi_get_gpu_total_ecc_count); memset(out, 0, 64); out[0] = g->v[CORRECTABLE]; out[1] = g->v[UNCORRECTABLE]; return OK; }
/* Only what the package's structure begins with; the rest stays as the package made it. */
int amdsmi_get_violation_status(void *h, uint64_t *out) {
  DEVICE(amdsmi_get_violation_status); if (!g->v[TICKS]) return REFUSED;
  out[2] = g->v[TICKS]; out[3] = ~0ULL; out[4] = g->v[POWER_TICKS]; out[5] = g->v[THERMAL_TICKS]; out[6] = out[7] = 0; return OK;
}
