import type { KubeObject } from '#shared/kubernetes/objects.ts';
import type { Condition, ContainerState, EnvVar, Volume, VolumeMount } from './tekton-types.ts';

/** The parts of a Pod that the stand-in reads and writes (kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1). */

export interface Container {
  name: string;
  image: string;
  command?: string[];
  args?: string[];
  env?: EnvVar[];
  envFrom?: unknown[];
  workingDir?: string;
  volumeMounts?: VolumeMount[];
  volumeDevices?: unknown[];
  resources?: unknown;
  securityContext?: { runAsUser?: number; [field: string]: unknown };
}

export interface ContainerStatus {
  name: string;
  image: string;
  imageID: string;
  ready: boolean;
  restartCount: number;
  state: ContainerState;
}

export interface PodStatus {
  phase?: 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown';
  reason?: string;
  message?: string;
  conditions?: Condition[];
  startTime?: string;
  containerStatuses?: ContainerStatus[];
}

export interface Pod extends KubeObject {
  metadata: KubeObject['metadata'] & { deletionGracePeriodSeconds?: number };
  spec: {
    containers: Container[];
    initContainers?: Container[];
    volumes?: Volume[];
    nodeName?: string;
    schedulingGates?: { name: string }[] | null;
    restartPolicy?: string;
    serviceAccountName?: string;
    terminationGracePeriodSeconds?: number;
  };
  status?: PodStatus;
}
