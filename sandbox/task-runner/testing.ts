import type { Pod, PodStatus } from './pod-types.ts';
import type { ContainerState, TaskRun, TaskRunSpec, TaskRunStatus } from './tekton-types.ts';

/** A TaskRun `builds/run` with these parts. */
export function taskRunWith(spec: TaskRunSpec, status?: TaskRunStatus): TaskRun {
  return {
    metadata: { name: 'run', namespace: 'builds', uid: 'uid-1', creationTimestamp: '2026-01-01T00:00:00Z' },
    spec,
    ...(status && { status }),
  };
}

/** Its Pod, with these states of its steps by name. */
export function podWith(phase: NonNullable<PodStatus['phase']>, steps: Record<string, ContainerState> = {}): Pod {
  return {
    metadata: { name: 'run-pod', namespace: 'builds', uid: 'uid-2' },
    spec: { containers: Object.keys(steps).map((name) => ({ name: `step-${name}`, image: 'any' })) },
    status: {
      phase,
      containerStatuses: Object.entries(steps).map(([name, state]) => ({
        name: `step-${name}`,
        image: 'any',
        imageID: '',
        ready: false,
        restartCount: 0,
        state,
      })),
    },
  };
}
