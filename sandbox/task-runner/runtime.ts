/** What a mounted Secret or ConfigMap holds. */
export interface VolumeFile {
  /** Relative to the volume. */
  readonly path: string;
  readonly content: Buffer;
  readonly mode: number;
}

export interface VolumeContent {
  readonly name: string;
  readonly files: readonly VolumeFile[];
  /** Secrets and ConfigMaps are mounted read-only, whatever the mount says. */
  readonly readOnly: boolean;
}

export interface ContainerRun {
  readonly name: string;
  readonly argv: readonly string[];
  readonly env: ReadonlyMap<string, string>;
  readonly workingDir: string;
  readonly mounts: readonly {
    readonly volume: string;
    readonly mountPath: string;
    readonly subPath: string | undefined;
    readonly readOnly: boolean;
  }[];
  /** Gets what the container writes, both streams. */
  readonly logPath: string;
}

/** A started Pod: volumes and, one after another, containers. */
export interface PodSandbox {
  /** Gives the exit code, 128 + the signal's number where one ended it. Never rejects once the Pod is destroyed. */
  run(container: ContainerRun): Promise<number>;
  /** To every process of the container that runs; none where nothing runs. */
  signal(signal: 'SIGTERM' | 'SIGKILL'): void;
  /** Undefined where there is no such file. */
  readFile(volume: string, path: string): Promise<string | undefined>;
  /** Kills every process and removes every file. May be called again. */
  destroy(): Promise<void>;
}

export interface Runtime {
  /** What a person should know about how steps run here, one sentence. */
  readonly description: string;
  start(volumes: readonly VolumeContent[]): Promise<PodSandbox>;
}
