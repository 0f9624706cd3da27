// Which fiber runs, and which fibers wait: at barriers of the block, and where lanes of a warp meet (sim_meet).
//
// A fiber runs until it must wait; then the next one in the ring of ready fibers runs. If the ring is empty and threads
// are left, this is a deadlock: it is reported, where a GPU would hang or continue with wrong values.
#include <stdlib.h>

#include <string>

#include "runtime.h"

Launch launch;
sim_builtins sim_builtin;

static Fiber& current() { return launch.fibers[launch.current]; }

static std::string place_of(const Fiber& f) {
  char text[600];
  place_text(text, sizeof text, f.pc, f.site);
  return text;
}

static void resume(void** from, int thread) {
  launch.current = thread;
  sim_builtin.thread = launch.fibers[thread].thread;
  fiber_switch(from, launch.fibers[thread].sp);
}

void switch_to_next() {
  int me = launch.current;
  if (!launch.n_ready) {
    fiber_switch(&launch.fibers[me].sp, launch.scheduler_sp);
    return;
  }
  int next = launch.ready[launch.first];
  launch.first = (launch.first + 1) % MAX_THREADS, launch.n_ready--;
  if (next != me) resume(&launch.fibers[me].sp, next);
}

static void make_ready(int thread) {
  launch.fibers[thread].state = Fiber::RUNNING;
  launch.ready[(launch.first + launch.n_ready++) % MAX_THREADS] = thread;
}

static void shuffle(int* items, int n) {
  for (int i = n - 1; i > 0; i--) {
    launch.random = launch.random * 6364136223846793005ull + 1442695040888963407ull;
    int j = (int)((launch.random >> 33) % (unsigned)(i + 1)), item = items[i];
    items[i] = items[j], items[j] = item;
  }
}

// All threads of the block, in the order in which they are to go on.
static void choose_order() {
  for (int i = 0; i < launch.n_threads; i++)
    launch.order[i] = launch.schedule == REVERSED ? launch.n_threads - 1 - i : i;
  if (launch.schedule == RANDOM) shuffle(launch.order, launch.n_threads);
}

// ------------------------------------------------------------------------------------------- barriers, warps

static void same_place(const Fiber& a, const Fiber& b) {
  if (a.site.line != b.site.line || strcmp(a.site.file, b.site.file))
    fault(b.pc, b.site, "threads of one warp meet at different __syncthreads: here and at %s", place_of(a).c_str());
}

int sim_barrier(int value, char reduce, sim_site site) {
  Fiber& me = current();
  me.state = Fiber::AT_BARRIER, me.site = site, me.pc = __builtin_return_address(0);
  if (launch.at_barrier++ == 0) launch.sum = launch.any = 0, launch.all = 1;
  launch.sum += value, launch.any |= value, launch.all &= value;
  if (launch.at_barrier == launch.n_threads) {
    for (int i = 0; i < launch.n_threads; i++)
      if (i % 32) same_place(launch.fibers[i], launch.fibers[i - 1]);
    launch.at_barrier = 0;
    launch.result[0] = launch.sum, launch.result[1] = launch.any, launch.result[2] = launch.all;
    check_barrier();
    if (launch.schedule == RANDOM) choose_order();
    for (int i = 0; i < launch.n_threads; i++) make_ready(launch.order[i]);
  }
  switch_to_next();
  return reduce == '+' ? launch.result[0] : reduce == '|' ? launch.result[1] : launch.result[2];
}

static void hold(Warp& warp, Meeting& meeting) {  // all lanes have arrived: compute for all, release them
  int first = 32 * (int)(&warp - launch.warps), threads[32], n = 0;
  if (meeting.op) meeting.op(meeting.lanes, meeting.arrived);
  check_meeting(first / 32, meeting.arrived, !meeting.op);
  for (int i = 0; i < 32; i++) {
    int lane = launch.schedule == REVERSED ? 31 - i : i;
    if (meeting.arrived >> lane & 1) threads[n++] = first + lane;
  }
  if (launch.schedule == RANDOM) shuffle(threads, n);
  meeting = warp.meetings[--warp.n_meetings];
  for (int i = 0; i < n; i++) make_ready(threads[i]);
}

void sim_meet(unsigned mask, void* operands, sim_warp_op op, const char* what, sim_site site) {
  int lane = launch.current % 32;
  Warp& warp = launch.warps[launch.current / 32];
  Fiber& me = current();
  me.site = site, me.pc = __builtin_return_address(0);
  if (!(mask >> lane & 1)) fault(me.pc, site, "%s: lane %d is not in its own mask 0x%08x", what, lane, mask);
  Meeting* meeting = warp.meetings;
  while (meeting < warp.meetings + warp.n_meetings && meeting->mask != mask) meeting++;
  if (meeting == warp.meetings + warp.n_meetings) {
    warp.n_meetings++;
    *meeting = {mask, 0, op, what, site, {}};
  }
  if (strcmp(meeting->what, what) || meeting->site.line != site.line || strcmp(meeting->site.file, site.file))
    fault(me.pc, site, "lanes of one warp meet at different places: here in %s, others in %s at %s", what, meeting->what,
          place_of(launch.fibers[launch.current / 32 * 32 + __builtin_ctz(meeting->arrived)]).c_str());
  meeting->arrived |= 1u << lane;
  meeting->lanes[lane] = operands;
  me.state = Fiber::IN_WARP;
  if (meeting->arrived == (mask & warp.alive)) hold(warp, *meeting);
  switch_to_next();
}

int sim_lane() { return launch.current % 32; }

// ------------------------------------------------------------------------------------------- a block's threads

void run_fiber() {
  launch.kernel->call(launch.args);
  int me = launch.current;
  Warp& warp = launch.warps[me / 32];
  launch.fibers[me].state = Fiber::DONE;
  warp.alive &= ~(1u << me % 32);
  for (int i = 0; i < warp.n_meetings; i++)  // the others do not wait for a lane that has left
    if (warp.meetings[i].arrived == (warp.meetings[i].mask & warp.alive)) hold(warp, warp.meetings[i--]);
  switch_to_next();
  __builtin_unreachable();
}

static void report_stuck() {
  int done = 0, n[4] = {};
  const Fiber* waiting = nullptr;
  for (int i = 0; i < launch.n_threads; i++) {
    Fiber& f = launch.fibers[i];
    n[f.state]++;
    if (f.state == Fiber::DONE) done++;
    else if (!waiting || (waiting->state == Fiber::AT_BARRIER && f.state == Fiber::IN_WARP)) waiting = &f;
  }
  launch.current = (int)(waiting - launch.fibers);
  sim_builtin.thread = waiting->thread;
  if (waiting->state == Fiber::AT_BARRIER)
    fault(waiting->pc, waiting->site, "%d of %d threads wait at a barrier that the others never reach (%d have left the kernel)",
          n[Fiber::AT_BARRIER], launch.n_threads, done);
  Warp& warp = launch.warps[launch.current / 32];
  Meeting* meeting = warp.meetings;
  while (!(meeting->arrived >> launch.current % 32 & 1)) meeting++;
  fault(waiting->pc, waiting->site, "%s: lanes 0x%08x wait for lanes 0x%08x, which never come", meeting->what, meeting->arrived,
        meeting->mask & warp.alive & ~meeting->arrived);
}

void run_block() {
  int n = launch.n_threads;
  launch.at_barrier = launch.first = launch.n_ready = 0;
  dim3 size = sim_builtin.block_dim;
  for (int i = 0; i < n; i++) {
    Fiber& f = launch.fibers[i];
    f.thread = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    f.n_copies = f.copy_group = 0;
    fiber_start(f, launch.stacks + (size_t)STACK * (i + 1));
  }
  for (int w = 0; w < (n + 31) / 32; w++) {
    launch.warps[w].alive = n - 32 * w >= 32 ? 0xffffffffu : (1u << (n - 32 * w)) - 1;
    launch.warps[w].n_meetings = 0;
  }
  choose_order();
  for (int i = 0; i < n; i++) make_ready(launch.order[i]);
  int first = launch.ready[0];
  launch.first = 1, launch.n_ready--;
  resume(&launch.scheduler_sp, first);  // returns when no fiber is ready
  for (int i = 0; i < n; i++)
    if (launch.fibers[i].state != Fiber::DONE) report_stuck();
}

// ------------------------------------------------------------------------------------- asynchronous copies

void sim_copy_async(void* shared, const void* global, int bytes, sim_site site) {
  Fiber& f = current();
  if ((uintptr_t)shared % bytes || (uintptr_t)global % bytes)
    fault(__builtin_return_address(0), site, "asynchronous copy of %d bytes from %p to %p: not aligned to %d", bytes, global, shared, bytes);
  if (f.n_copies == f.copy_room) {
    f.copy_room = f.copy_room ? 2 * f.copy_room : 16;
    f.copies = (Copy*)realloc(f.copies, sizeof(Copy) * f.copy_room);
  }
  f.copies[f.n_copies] = {(char*)shared, (const char*)global, bytes, f.copy_group, site};
  check_copy(f.copies[f.n_copies++], false);
}

void sim_copy_commit() { current().copy_group++; }

void sim_copy_wait(int newest, sim_site) {
  Fiber& f = current();
  int kept = 0;
  for (int i = 0; i < f.n_copies; i++) {
    Copy& c = f.copies[i];
    if (c.group >= f.copy_group - newest) {  // in flight, as are copies that are not committed
      f.copies[kept++] = c;
      continue;
    }
    if (c.from) memcpy(c.to, c.from, c.bytes);
    else memset(c.to, 0, c.bytes);
    check_copy(c, true);
  }
  f.n_copies = kept;
}
