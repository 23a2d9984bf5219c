/* Streams, graphs of launches that were recorded on one, and events. */
#define _GNU_SOURCE
#include "stand_in.h"

#include <stdlib.h>

CUresult cuStreamSynchronize(void *stream) {
  (void)stream;
  ENTER("cuStreamSynchronize");
  NEED_CONTEXT;
  return OK;
}

CUresult cuStreamCreate(void **stream, unsigned flags) {
  (void)flags;
  ENTER("cuStreamCreate");
  NEED_CONTEXT;
  return *stream = calloc(1, 1), OK;
}

CUresult cuStreamDestroy_v2(void *stream) {
  ENTER("cuStreamDestroy_v2");
  free(stream);
  return OK;
}

CUresult cuStreamBeginCapture_v2(void *stream, int mode) {
  (void)mode;
  ENTER("cuStreamBeginCapture_v2");
  if (stream == NULL || capturing != NULL) return INVALID_VALUE;
  capturing = calloc(1, sizeof *capturing);
  capturing->stream = stream;
  return OK;
}

CUresult cuStreamEndCapture(void *stream, graph **made) {
  ENTER("cuStreamEndCapture");
  if (capturing == NULL || capturing->stream != stream) return INVALID_VALUE;
  *made = capturing;
  capturing = NULL;
  return OK;
}

CUresult cuGraphInstantiateWithFlags(graph **made, graph *from, unsigned long long flags) {
  (void)flags;
  ENTER("cuGraphInstantiateWithFlags");
  *made = calloc(1, sizeof **made);
  **made = *from;
  return OK;
}

CUresult cuGraphLaunch(graph *g, void *stream) {
  ENTER("cuGraphLaunch");
  NEED_CONTEXT;
  note("cuGraphLaunch %d launches stream %p", g->count, stream);
  CUresult status = OK;
  for (int i = 0; i < g->count && status == OK; ++i)
    status = emulate(g->nodes[i].kernel, g->nodes[i].sizes, g->nodes[i].addresses,
                     stack[depth - 1]->device);
  return status;
}

CUresult cuGraphDestroy(graph *g) {
  ENTER("cuGraphDestroy");
  free(g);
  return OK;
}

CUresult cuGraphExecDestroy(graph *g) {
  ENTER("cuGraphExecDestroy");
  free(g);
  return OK;
}

CUresult cuEventCreate(event **made, unsigned flags) {
  (void)flags;
  ENTER("cuEventCreate");
  NEED_CONTEXT;
  return *made = calloc(1, sizeof **made), OK;
}

CUresult cuEventRecord(event *e, void *stream) {
  ENTER("cuEventRecord");
  clock_gettime(CLOCK_MONOTONIC, &e->at);
  note("cuEventRecord on %p", stream);
  return OK;
}

CUresult cuEventSynchronize(event *e) {
  (void)e;
  ENTER("cuEventSynchronize");
  return OK;
}

CUresult cuEventElapsedTime(float *milliseconds, event *start, event *end) {
  ENTER("cuEventElapsedTime");
  *milliseconds = (float)((double)(end->at.tv_sec - start->at.tv_sec) * 1e3 +
                          (double)(end->at.tv_nsec - start->at.tv_nsec) * 1e-6);
  return OK;
}

CUresult cuEventDestroy_v2(event *e) {
  ENTER("cuEventDestroy_v2");
  free(e);
  return OK;
}
