/* A stand-in for NVIDIA's libnvidia-ml.so.1, for tests on machines without a GPU. The real pynvml loads it.

   It answers what the file named by FAKE_NVML_SCENARIO says, and reads it again whenever it changes. A line each
   (numbers of devices from 0; `P` is a MIG instance, named by its own number among all of the file):

     driver 580.65.06                          init 0                (return code of nvmlInit)
     gpu D UUID MEMORY_MIB RESERVED_MIB NAME   (a device; the name is the rest of the line)
     set D util|memutil|used_mib|power_mw|limit_mw|energy_mj|temperature|sm_mhz|mem_mhz|reasons|mig|ecc|rows|rows_pending|rows_failed|
           pcie_gen|pcie_lanes|pcie_kbps|replays N
     field D ID TYPE VALUE                     (of nvmlDeviceGetFieldValues; fields without a line are not supported)
     mig D UUID GI CI SIZE GSLICES CSLICES MEMORY_MIB USED_MIB
     proc D PID MEMORY_MIB [GI CI]             (a compute process; memory -1: not available)
     graphics D PID MEMORY_MIB                 mps D PID MEMORY_MIB
     use D PID TIME_US SM MEM                  (a sample of nvmlDeviceGetProcessUtilization)
     gpm D GI METRIC VALUE                     (GI -1: the whole device; a device without such lines does not count)
     xid D CODE                                (an error that is reported once, in the order of the lines)
     code D FUNCTION CODE                      (D -1: whatever the device)
     slow FUNCTION MS [D]                      (the call takes this long, of one device or all)
     spin FUNCTION US                          (the call takes this much CPU)

   Codes are those of an H100 with driver 580 (tests/agent/node/recordings, compared by a test).
   A symbol is left out by the linker's version script (see `build` in fake_nvml_library.py). */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <pthread.h>

#define DEVICES 64
#define PARTS 128
#define ROWS 4096
#define NONE 0xFFFFFFFFu

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT = 7, TIMEOUT = 10, LOST = 15,
       VERSION = 25 };

typedef unsigned long long u64;
typedef unsigned int u32;
typedef struct { char uuid[96], name[96]; u64 memory, reserved; long util, memutil, used, power, limit, temperature,
                 sm, mem, reasons, mig, ecc, rows, rows_pending, rows_failed, pcie_gen, pcie_lanes, pcie_kbps, replays; long long energy; } Gpu;
typedef struct { int device; char uuid[96]; u32 gi, ci, size, gslices, cslices; u64 memory, used; } Part;
typedef struct { int kind, device; u32 pid, gi, ci; long long memory; } Process;
typedef struct { int device; u32 pid; u64 at; u32 sm, mem; } Use;
typedef struct { int device; u32 id, type; double number; } Field;
typedef struct { int device, gi; u32 metric; double value; } Gpm;
typedef struct { int device; char name[80]; int code; } Code;
typedef struct { char name[80]; long ms, us; int device; } Slow;
typedef struct { int device, code; } Xid;

static struct {
  char driver[80]; int init, gpus, parts, processes, uses, fields, gpms, codes, slows, xids;
  Gpu gpu[DEVICES]; Part part[PARTS]; Process process[ROWS]; Use use[ROWS]; Field field[ROWS]; Gpm gpm[ROWS];
  Code code[ROWS]; Slow slow[256]; Xid xid[256];
} S;
static int initialised = 0, reported = 0;
static struct timespec read_at; static off_t read_size; static ino_t read_inode;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void set(Gpu *g, const char *name, long long value) {
  if (!strcmp(name, "util")) g->util = value; else if (!strcmp(name, "memutil")) g->memutil = value;
  else if (!strcmp(name, "used_mib")) g->used = value; else if (!strcmp(name, "power_mw")) g->power = value;
  else if (!strcmp(name, "limit_mw")) g->limit = value; else if (!strcmp(name, "energy_mj")) g->energy = value;
  else if (!strcmp(name, "temperature")) g->temperature = value; else if (!strcmp(name, "sm_mhz")) g->sm = value;
  else if (!strcmp(name, "mem_mhz")) g->mem = value; else if (!strcmp(name, "reasons")) g->reasons = value;
  else if (!strcmp(name, "mig")) g->mig = value; else if (!strcmp(name, "ecc")) g->ecc = value;
  else if (!strcmp(name, "rows")) g->rows = value; else if (!strcmp(name, "rows_pending")) g->rows_pending = value;
  else if (!strcmp(name, "rows_failed")) g->rows_failed = value; else if (!strcmp(name, "pcie_gen")) g->pcie_gen = value;
  else if (!strcmp(name, "pcie_lanes")) g->pcie_lanes = value; else if (!strcmp(name, "pcie_kbps")) g->pcie_kbps = value;
  else if (!strcmp(name, "replays")) g->replays = value;
  else { fprintf(stderr, "fake_nvml: no such value: %s\n", name); abort(); }
}

static void parse(char *line) {
  char word[32] = "", name[96] = ""; int d = -1, offset = 0; long long a = 0, b = 0;
  if (sscanf(line, "%31s", word) != 1 || word[0] == '#') return;
  if (!strcmp(word, "driver")) sscanf(line, "%*s %79s", S.driver);
  else if (!strcmp(word, "init")) sscanf(line, "%*s %d", &S.init);
  else if (!strcmp(word, "gpu") && sscanf(line, "%*s %d %95s %lld %lld %n", &d, name, &a, &b, &offset) == 4 && d < DEVICES) {
    Gpu *g = &S.gpu[d]; memset(g, 0, sizeof *g);
    strcpy(g->uuid, name); snprintf(g->name, sizeof g->name, "%s", line + offset);
    g->memory = a << 20; g->reserved = b << 20; g->energy = -1; if (d >= S.gpus) S.gpus = d + 1;
  } else if (!strcmp(word, "set") && sscanf(line, "%*s %d %95s %lld", &d, name, &a) == 3) set(&S.gpu[d], name, a);
  else if (!strcmp(word, "field") && S.fields < ROWS) {
    Field *f = &S.field[S.fields++]; sscanf(line, "%*s %d %u %u %lf", &f->device, &f->id, &f->type, &f->number);
  } else if (!strcmp(word, "mig") && S.parts < PARTS) {
    Part *p = &S.part[S.parts++];
    sscanf(line, "%*s %d %95s %u %u %u %u %u %lld %lld", &p->device, p->uuid, &p->gi, &p->ci, &p->size, &p->gslices,
           &p->cslices, &a, &b);
    p->memory = (u64)a << 20; p->used = (u64)b << 20;
  } else if ((!strcmp(word, "proc") || !strcmp(word, "graphics") || !strcmp(word, "mps")) && S.processes < ROWS) {
    Process *p = &S.process[S.processes++]; p->gi = p->ci = NONE;
    p->kind = word[0] == 'p' ? 0 : word[0] == 'g' ? 1 : 2;
    sscanf(line, "%*s %d %u %lld %u %u", &p->device, &p->pid, &p->memory, &p->gi, &p->ci);
  } else if (!strcmp(word, "use") && S.uses < ROWS) {
    Use *u = &S.use[S.uses++]; sscanf(line, "%*s %d %u %llu %u %u", &u->device, &u->pid, &u->at, &u->sm, &u->mem);
  } else if (!strcmp(word, "gpm") && S.gpms < ROWS) {
    Gpm *g = &S.gpm[S.gpms++]; sscanf(line, "%*s %d %d %u %lf", &g->device, &g->gi, &g->metric, &g->value);
  } else if (!strcmp(word, "code") && S.codes < ROWS) {
    Code *c = &S.code[S.codes++]; sscanf(line, "%*s %d %79s %d", &c->device, c->name, &c->code);
  } else if (!strcmp(word, "xid") && S.xids < 256) {
    Xid *x = &S.xid[S.xids++]; sscanf(line, "%*s %d %d", &x->device, &x->code);
  } else if (!strcmp(word, "slow") && S.slows < 256) {
    Slow *s = &S.slow[S.slows++]; s->device = -1; sscanf(line, "%*s %79s %ld %d", s->name, &s->ms, &s->device);
  } else if (!strcmp(word, "spin") && S.slows < 256) {
    Slow *s = &S.slow[S.slows++]; s->device = -1; sscanf(line, "%*s %79s %ld", s->name, &s->us);
  } else { fprintf(stderr, "fake_nvml: not understood: %s\n", line); abort(); }
}

static void refresh(void) {
  const char *path = getenv("FAKE_NVML_SCENARIO"); struct stat now; char line[512]; FILE *file;
  if (!path || stat(path, &now)) return;
  if (now.st_mtim.tv_sec == read_at.tv_sec && now.st_mtim.tv_nsec == read_at.tv_nsec && now.st_size == read_size
      && now.st_ino == read_inode) return;
  file = fopen(path, "r"); if (!file) return;
  memset(&S, 0, sizeof S); strcpy(S.driver, "580.00");
  while (fgets(line, sizeof line, file)) { line[strcspn(line, "\n")] = 0; parse(line); }
  fclose(file); read_at = now.st_mtim; read_size = now.st_size; read_inode = now.st_ino;
}

/* What every call begins with: the scenario, a delay, and the code that the scenario orders for it. */
static int begin(const char *name, int device) {
  long ms = 0, us = 0; int code = OK;
  pthread_mutex_lock(&lock); refresh();
  for (int i = 0; i < S.slows; i++)
    if (!strcmp(S.slow[i].name, name) && (S.slow[i].device == -1 || S.slow[i].device == device)) { ms += S.slow[i].ms; us += S.slow[i].us; }
  for (int i = 0; i < S.codes; i++)
    if ((S.code[i].device == device || S.code[i].device == -1) && (!strcmp(S.code[i].name, name) || !strcmp(S.code[i].name, "*")))
      code = S.code[i].code;
  pthread_mutex_unlock(&lock);
  if (ms) { struct timespec wait = { ms / 1000, ms % 1000 * 1000000 }; nanosleep(&wait, NULL); }
  if (us) {
    struct timespec start, now; clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
    do clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    while ((now.tv_sec - start.tv_sec) * 1000000L + (now.tv_nsec - start.tv_nsec) / 1000 < us);
  }
  return initialised ? code : UNINITIALIZED;
}

static Gpu *gpu_of(void *h, int *d) {
  long at = (long)h - 0x1000; *d = (int)at; return at >= 0 && at < S.gpus ? &S.gpu[at] : NULL;
}
static Part *part_of(void *h) { long at = (long)h - 0x2000; return at >= 0 && at < S.parts ? &S.part[at] : NULL; }
static int device_of(void *h) { Part *p = part_of(h); int d; if (p) return p->device; gpu_of(h, &d); return d; }

#define CALL(NAME, HANDLE) int code_ = begin(NAME, device_of(HANDLE)); if (code_) return code_
#define DEVICE(NAME) int d; CALL(NAME, h); Gpu *g = gpu_of(h, &d); if (!g) return part_of(h) ? NOT_SUPPORTED : INVALID

const char *nvmlErrorString(int code) { static __thread char text[32]; snprintf(text, sizeof text, "fake error %d", code); return text; }
int nvmlInitWithFlags(u32 flags) { (void)flags; pthread_mutex_lock(&lock); refresh(); int code = S.init; pthread_mutex_unlock(&lock); if (!code) { initialised = 1; reported = S.xids; } return code; }
int nvmlShutdown(void) { initialised = 0; return OK; }
int nvmlSystemGetDriverVersion(char *out, u32 size) { int c = begin("nvmlSystemGetDriverVersion", -2); if (!c) snprintf(out, size, "%s", S.driver); return c; }
int nvmlSystemGetNVMLVersion(char *out, u32 size) { snprintf(out, size, "13.%s", S.driver); return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *out) { *out = 13000; return OK; }
int nvmlDeviceGetCount_v2(u32 *count) { int c = begin("nvmlDeviceGetCount_v2", -2); if (!c) *count = S.gpus; return c; }
int nvmlDeviceGetHandleByIndex_v2(u32 index, void **h) {
  int c = begin("nvmlDeviceGetHandleByIndex_v2", (int)index); if (c) return c;
  if ((int)index >= S.gpus) return INVALID;
  *h = (void *)(0x1000L + index); return OK;
}
int nvmlDeviceGetUUID(void *h, char *out, u32 size) {
  CALL("nvmlDeviceGetUUID", h); Part *p = part_of(h); int d; Gpu *g = gpu_of(h, &d);
  if (!p && !g) return INVALID;
  snprintf(out, size, "%s", p ? p->uuid : g->uuid); return OK;
}
int nvmlDeviceGetName(void *h, char *out, u32 size) { DEVICE("nvmlDeviceGetName"); snprintf(out, size, "%s", g->name); return OK; }
typedef struct { char legacy[16]; u32 domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
int nvmlDeviceGetPciInfo_v3(void *h, Pci *out) {
  DEVICE("nvmlDeviceGetPciInfo_v3"); memset(out, 0, sizeof *out); out->bus = d + 1;
  snprintf(out->bus_id, 32, "00000000:%02X:00.0", d + 1); return OK;
}
typedef struct { u64 total, free, used; } Memory1;
int nvmlDeviceGetMemoryInfo(void *h, Memory1 *m) {
  CALL("nvmlDeviceGetMemoryInfo", h); Part *p = part_of(h); int d; Gpu *g = gpu_of(h, &d); if (!p && !g) return INVALID;
  m->total = p ? p->memory : g->memory; m->used = p ? p->used : ((u64)g->used << 20) + g->reserved; m->free = m->total - m->used; return OK;
}
typedef struct { u32 version; u64 total, reserved, free, used; } Memory2;
int nvmlDeviceGetMemoryInfo_v2(void *h, Memory2 *m) {
  CALL("nvmlDeviceGetMemoryInfo_v2", h); Part *p = part_of(h); int d; Gpu *g = gpu_of(h, &d);
  if (!p && !g) return INVALID;
  if (m->version != 0x02000028) return VERSION;
  m->total = p ? p->memory : g->memory; m->reserved = p ? 0 : g->reserved; m->used = p ? p->used : (u64)g->used << 20;
  m->free = m->total - m->reserved - m->used; return OK;
}
int nvmlDeviceGetUtilizationRates(void *h, u32 *rates) { DEVICE("nvmlDeviceGetUtilizationRates"); if (g->mig) return NOT_SUPPORTED; rates[0] = g->util; rates[1] = g->memutil; return OK; }
#define NUMBER(NAME, TYPE, VALUE) int NAME(void *h, TYPE *out) { DEVICE(#NAME); *out = (TYPE)(VALUE); return OK; }
NUMBER(nvmlDeviceGetPowerUsage, u32, g->power)
NUMBER(nvmlDeviceGetEnforcedPowerLimit, u32, g->limit)
NUMBER(nvmlDeviceGetCurrentClocksEventReasons, u64, g->reasons)
NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, u64, g->reasons)
NUMBER(nvmlDeviceGetMinorNumber, u32, d)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, u32, g->pcie_gen)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, u32, g->pcie_lanes)
NUMBER(nvmlDeviceGetPcieReplayCounter, u32, g->replays)
int nvmlDeviceGetPcieThroughput(void *h, u32 direction, u32 *out) { DEVICE("nvmlDeviceGetPcieThroughput"); *out = direction ? g->pcie_kbps / 2 : g->pcie_kbps; return OK; }
int nvmlDeviceGetTotalEnergyConsumption(void *h, u64 *out) { DEVICE("nvmlDeviceGetTotalEnergyConsumption"); if (g->energy < 0) return NOT_SUPPORTED; *out = g->energy; return OK; }
int nvmlDeviceGetClockInfo(void *h, u32 kind, u32 *out) { DEVICE("nvmlDeviceGetClockInfo"); *out = kind == 2 ? g->mem : g->sm; return OK; }
int nvmlDeviceGetTemperature(void *h, u32 sensor, u32 *out) { (void)sensor; DEVICE("nvmlDeviceGetTemperature"); *out = g->temperature; return OK; }
typedef struct { u32 version, sensor; int value; } Temperature;
int nvmlDeviceGetTemperatureV(void *h, Temperature *t) { DEVICE("nvmlDeviceGetTemperatureV"); if (t->version != 0x100000C) return VERSION; t->value = g->temperature; return OK; }
int nvmlDeviceGetTotalEccErrors(void *h, u32 kind, u32 counter, u64 *out) { (void)counter; DEVICE("nvmlDeviceGetTotalEccErrors"); *out = kind ? g->ecc : 0; return OK; }
int nvmlDeviceGetRemappedRows(void *h, u32 *c, u32 *u, u32 *pending, u32 *failed) { DEVICE("nvmlDeviceGetRemappedRows"); *c = g->rows; *u = 0; *pending = g->rows_pending; *failed = g->rows_failed; return OK; }

typedef struct { u32 id, scope; long long at, latency; u32 type; int ret; union { double d; u32 u; unsigned long l; u64 ll; } value; } FieldValue;
int nvmlDeviceGetFieldValues(void *h, int count, FieldValue *values) {
  DEVICE("nvmlDeviceGetFieldValues");
  for (int i = 0; i < count; i++) {
    values[i].ret = NOT_SUPPORTED;
    for (int j = 0; j < S.fields; j++) {
      Field *f = &S.field[j]; if (f->device != d || f->id != values[i].id) continue;
      values[i].ret = OK; values[i].type = f->type;
      if (f->type == 0) values[i].value.d = f->number; else if (f->type == 1) values[i].value.u = f->number; else values[i].value.ll = f->number;
    }
  }
  return OK;  /* as an H100 does, even when no field is supported */
}

typedef struct { u32 pid; u64 memory; u32 gi, ci; } ProcessInfo;
static int list(void *h, int kind, u32 *count, ProcessInfo *out) {
  Part *part = part_of(h); int d = device_of(h); u32 found = 0, room = *count;
  for (int i = 0; i < S.processes; i++) {
    Process *p = &S.process[i];
    if (p->kind != kind || p->device != d || (part && (p->gi != part->gi || p->ci != part->ci))) continue;
    if (out && found < room) { out[found].pid = p->pid; out[found].memory = p->memory < 0 ? ~0ULL : (u64)p->memory << 20; out[found].gi = p->gi; out[found].ci = p->ci; }
    found++;
  }
  *count = found; return found == 0 || (out && found <= room) ? OK : INSUFFICIENT;
}
#define LIST(NAME, KIND) int NAME(void *h, u32 *count, ProcessInfo *out) { CALL(#NAME, h); return list(h, KIND, count, out); }
LIST(nvmlDeviceGetComputeRunningProcesses_v3, 0)
LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, 1)
LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, 2)
LIST(nvmlDeviceGetComputeRunningProcesses_v2, 0)

typedef struct { u32 pid; u64 at; u32 sm, mem, enc, dec; } UseSample;
int nvmlDeviceGetProcessUtilization(void *h, UseSample *out, u32 *count, u64 last) {
  DEVICE("nvmlDeviceGetProcessUtilization"); u32 found = 0, room = *count; if (g->mig) return NOT_SUPPORTED;
  for (int i = 0; i < S.uses; i++) {
    Use *u = &S.use[i]; if (u->device != d || u->at <= last) continue;
    if (out && found < room) { memset(&out[found], 0, sizeof *out); out[found].pid = u->pid; out[found].at = u->at; out[found].sm = u->sm; out[found].mem = u->mem; }
    found++;
  }
  *count = found; if (!found) return NOT_FOUND; return out && found <= room ? OK : INSUFFICIENT;
}

int nvmlDeviceGetMigMode(void *h, u32 *now, u32 *next) { DEVICE("nvmlDeviceGetMigMode"); *now = *next = g->mig; return OK; }
int nvmlDeviceGetMaxMigDeviceCount(void *h, u32 *count) { DEVICE("nvmlDeviceGetMaxMigDeviceCount"); *count = g->mig ? 7 : 0; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *h, u32 index, void **out) {
  DEVICE("nvmlDeviceGetMigDeviceHandleByIndex"); u32 seen = 0; if (!g->mig) return NOT_FOUND;
  for (int i = 0; i < S.parts; i++) if (S.part[i].device == d && seen++ == index) { *out = (void *)(0x2000L + i); return OK; }
  return NOT_FOUND;
}
int nvmlDeviceGetGpuInstanceId(void *h, u32 *out) { CALL("nvmlDeviceGetGpuInstanceId", h); Part *p = part_of(h); if (!p) return INVALID; *out = p->gi; return OK; }
int nvmlDeviceGetComputeInstanceId(void *h, u32 *out) { CALL("nvmlDeviceGetComputeInstanceId", h); Part *p = part_of(h); if (!p) return INVALID; *out = p->ci; return OK; }
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *h, void **out) { CALL("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", h); Part *p = part_of(h); if (!p) return INVALID; *out = (void *)(0x1000L + p->device); return OK; }
typedef struct { u32 sm, ce, dec, enc, jpg, ofa, gpu_slices, compute_slices; u64 memory_mb; } Attributes;
int nvmlDeviceGetAttributes_v2(void *h, Attributes *a) {
  CALL("nvmlDeviceGetAttributes_v2", h); Part *p = part_of(h); if (!p) return NOT_SUPPORTED;
  memset(a, 0, sizeof *a); a->gpu_slices = p->gslices; a->compute_slices = p->cslices; a->memory_mb = p->memory >> 20; return OK;
}
int nvmlDeviceGetGpuInstanceById(void *h, u32 gi, void **out) {
  DEVICE("nvmlDeviceGetGpuInstanceById");
  for (int i = 0; i < S.parts; i++) if (S.part[i].device == d && S.part[i].gi == gi) { *out = (void *)(0x3000L + i); return OK; }
  return NOT_FOUND;
}
typedef struct { void *device; u32 id, profile, start, size; } InstanceInfo;
int nvmlGpuInstanceGetInfo(void *h, InstanceInfo *info) {
  long at = (long)h - 0x3000; int c = begin("nvmlGpuInstanceGetInfo", -2); if (c) return c; if (at < 0 || at >= S.parts) return INVALID;
  memset(info, 0, sizeof *info); info->id = S.part[at].gi; info->size = S.part[at].size; return OK;
}

typedef struct { u32 version, supported; } GpmSupport;
int nvmlGpmQueryDeviceSupport(void *h, GpmSupport *s) {
  CALL("nvmlGpmQueryDeviceSupport", h); int d = device_of(h); s->supported = 0; if (s->version != 1) return VERSION;
  for (int i = 0; i < S.gpms; i++) if (S.gpm[i].device == d) s->supported = 1;
  return OK;
}
typedef struct { int device, gi; } Sample;
int nvmlGpmSampleAlloc(Sample **out) { int c = begin("nvmlGpmSampleAlloc", -2); if (c) return c; *out = malloc(sizeof(Sample)); return OK; }
int nvmlGpmSampleFree(Sample *s) { free(s); return OK; }
int nvmlGpmSampleGet(void *h, Sample *s) { DEVICE("nvmlGpmSampleGet"); (void)g; s->device = d; s->gi = -1; return OK; }
int nvmlGpmMigSampleGet(void *h, u32 gi, Sample *s) { DEVICE("nvmlGpmMigSampleGet"); (void)g; s->device = d; s->gi = (int)gi; return OK; }
typedef struct { u32 id; int ret; double value; void *info[3]; } Metric;
typedef struct { u32 version, count; Sample *one, *two; Metric metrics[]; } MetricsGet;
int nvmlGpmMetricsGet(MetricsGet *get) {
  int c = begin("nvmlGpmMetricsGet", get->two->device); if (c) return c; if (get->version != 1) return VERSION;
  for (u32 i = 0; i < get->count; i++) {
    get->metrics[i].ret = NOT_SUPPORTED;
    for (int j = 0; j < S.gpms; j++)
      if (S.gpm[j].device == get->two->device && S.gpm[j].gi == get->two->gi && S.gpm[j].metric == get->metrics[i].id) { get->metrics[i].ret = OK; get->metrics[i].value = S.gpm[j].value; }
  }
  return OK;
}

typedef struct { void *device; u64 type, data; u32 gi, ci; } EventData;
int nvmlEventSetCreate(void **set) { *set = malloc(1); return OK; }
int nvmlEventSetFree(void *set) { free(set); return OK; }
int nvmlDeviceRegisterEvents(void *h, u64 types, void *set) { (void)types; (void)set; DEVICE("nvmlDeviceRegisterEvents"); (void)g; return OK; }
int nvmlEventSetWait_v2(void *set, EventData *data, u32 ms) {
  (void)set; (void)ms; int c = begin("nvmlEventSetWait_v2", -2); if (c) return c;
  if (reported >= S.xids) return TIMEOUT;
  memset(data, 0, sizeof *data); data->device = (void *)(0x1000L + S.xid[reported].device);
  data->type = 8; data->data = S.xid[reported++].code; return OK;
}
