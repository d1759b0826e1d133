/**
 * Every name that others see on the wire. Tasks, dashboards and host lists in use depend on them: they do not change.
 */

const PREFIX = 'build.appstudio.redhat.com/';

export const LABEL = {
  /** The TaskRun's platform with `/` replaced by `-`; marks the TaskRuns that are ours. */
  targetPlatform: `${PREFIX}target-platform`,
  /** Name of the host that the TaskRun holds a slot on. */
  assignedHost: `${PREFIX}assigned-host`,
  /** The same value as {@link LABEL.targetPlatform} while no slot is free. */
  waitingForPlatform: `${PREFIX}waiting-for-platform`,
  /** On each Secret that we made. */
  multiPlatformSecret: `${PREFIX}multi-platform-secret`,
  /** On the ConfigMap that lists the hosts. */
  multiPlatformConfig: `${PREFIX}multi-platform-config`,
} as const;

export const ANNOTATION = {
  /** Comma-separated names of the hosts where no account could be made for this TaskRun. */
  failedHosts: `${PREFIX}failed-hosts`,
  /** Unix seconds at which the search for a host began. */
  allocationStartTime: `${PREFIX}allocation-start-time`,
  /** Unix seconds at which the slot was taken. */
  buildStartTime: `${PREFIX}build-start-time`,
  /** Why the TaskRun got no host: what its `error` Secret says. */
  error: `${PREFIX}error`,
  /** A Secret of the name that we would use was there already and is not ours; nothing is done for the TaskRun. */
  foreignSecret: `${PREFIX}foreign-secret`,
  /** On a Pod: written once its Secret is there, so that the kubelet looks again. */
  secretReady: `${PREFIX}secret-ready`,
} as const;

/** Labels that only the controller and the webhook may write on a TaskRun. */
export const RESERVED_LABELS: readonly string[] = [LABEL.targetPlatform, LABEL.assignedHost, LABEL.waitingForPlatform];

/** Annotations that only the controller may write on a TaskRun. */
export const RESERVED_ANNOTATIONS: readonly string[] = [
  ANNOTATION.failedHosts,
  ANNOTATION.allocationStartTime,
  ANNOTATION.buildStartTime,
  ANNOTATION.error,
  ANNOTATION.foreignSecret,
];

export const FINALIZER = 'appstudio.io/multi-platform-finalizer';

export const PLATFORM_PARAM = 'PLATFORM';

export const SECRET_PREFIX = 'multi-platform-ssh-';

/** Keys of the Secret. Either `error` alone, or the others. */
export const SECRET_KEY = {
  privateKey: 'id_rsa',
  host: 'host',
  userDir: 'user-dir',
  knownHosts: 'known_hosts',
  /** Only where the host's sshd is not on port 22. */
  port: 'port',
  error: 'error',
} as const;

/** Value of {@link LABEL.assignedHost} where the step runs in the Pod itself. */
export const LOCAL_HOST = 'localhost';

export const HOST_CONFIG_NAME = 'host-config';
export const LOCAL_PLATFORMS_KEY = 'local-platforms';
export const DEFAULT_NAMESPACE = 'multi-platform-controller';
export const METRICS_PREFIX = 'multi_platform_controller_';

/** Name of the Secret that the TaskRun called `taskRunName` mounts. */
export function secretName(taskRunName: string): string {
  return SECRET_PREFIX + taskRunName;
}
