import path from 'node:path';
import type { MergedStep } from './merged-step.ts';
import type { Task, VolumeMount } from './task.ts';

/** Something that the step sees at `path` and that lies in `folder` on the host. */
export interface Carried {
  /** What comes back from the host is `rw`. */
  readonly mode: 'rw' | 'ro';
  /** Relative to the step's folder on the host. */
  readonly folder: string;
  readonly path: string;
  /** What is mounted inside of it and carried by itself; anchored patterns, as rsync and `find -path` read them. */
  readonly excludes: readonly string[];
}

export interface CarriedOver {
  readonly carried: readonly Carried[];
  /** Where the step's container storage is mounted: only the image comes back from there. */
  readonly storage: string | undefined;
  /** Why something cannot be carried over; empty where all can. */
  readonly reasons: readonly string[];
}

/** Tekton mounts it into every step, and workspaces into it by default. */
const WORKSPACE_FOLDER = '/workspace';
const RESULTS_FOLDER = '/tekton/results';

/** Kinds of volumes by what they are to a step. Any other kind belongs to the node or the cluster, and stays there. */
const WRITABLE_KINDS: readonly string[] = ['emptyDir', 'persistentVolumeClaim', 'ephemeral'];
const READ_ONLY_KINDS: readonly string[] = ['secret', 'configMap', 'projected', 'downwardAPI'];

const MOUNT_FIELDS: ReadonlySet<string> = new Set(['name', 'mountPath', 'subPath', 'readOnly', 'recursiveReadOnly']);

/** Root's, and that of others (containers-storage.conf(5)). */
const CONTAINER_STORAGE = /^\/var\/lib\/containers(?:\/storage)?$|\/\.local\/share\/containers(?:\/storage)?$/;

type Mounted = Omit<Carried, 'excludes'>;

export function planCarried(task: Task, step: MergedStep): CarriedOver {
  const workspaces = workspacesOf(task);
  const volumes = step.volumeMounts.map((mount) => mounted(mount, kindOf(task, mount)));
  const storage = volumes.find((volume) => CONTAINER_STORAGE.test(volume.path));
  const declared = [...workspaces, ...volumes.filter((volume) => volume !== storage)];
  const all: Mounted[] = [
    { mode: 'rw', folder: 'workspace', path: WORKSPACE_FOLDER },
    ...declared,
    { mode: 'rw', folder: 'results', path: RESULTS_FOLDER },
  ];
  // What the Task itself mounts there takes the place of what Tekton would mount.
  const effective = all.filter((one) => all.findLast((other) => other.path === one.path) === one);
  const paths = [...effective, ...(storage === undefined ? [] : [storage])].map((one) => one.path);
  return {
    carried: effective.map((one) => ({ ...one, excludes: inside(one.path, paths).map(patternOf) })),
    storage: storage?.path,
    reasons: [
      ...(task.spec.workspaces ?? [])
        .filter(({ name }) => !/^[\w.-]+$/.test(name))
        .map(({ name }) => `workspace ${name}: its name cannot name a folder`),
      ...workspaces.flatMap((one) => pathProblems(one.folder, one.path)),
      ...step.volumeMounts.flatMap((mount) => mountProblems(mount, kindOf(task, mount))),
      ...repeated(step.volumeMounts),
    ],
  };
}

function workspacesOf({ spec }: Task): Mounted[] {
  return (spec.workspaces ?? []).map(({ name, mountPath, readOnly }) => {
    const at = normal(mountPath ?? `${WORKSPACE_FOLDER}/${name}`);
    return readOnly === true
      ? { mode: 'ro', folder: `readonly/workspace-${name}`, path: at }
      : { mode: 'rw', folder: `workspaces/${name}`, path: at };
  });
}

/** A volume's name is a DNS label, so what follows a dot cannot clash with one. */
function mounted({ name, mountPath, subPath, readOnly }: VolumeMount, kind: string | undefined): Mounted {
  const folder = subPath === undefined ? name : `${name}.${mountPath.replaceAll(/[^A-Za-z0-9]+/g, '-')}`;
  return readOnly === true || READ_ONLY_KINDS.includes(kind ?? '')
    ? { mode: 'ro', folder: `readonly/${folder}`, path: normal(mountPath) }
    : { mode: 'rw', folder: `volumes/${folder}`, path: normal(mountPath) };
}

function kindOf({ spec }: Task, { name }: VolumeMount): string | undefined {
  const volume = spec.volumes?.find((candidate) => candidate.name === name);
  return volume && Object.keys(volume).find((key) => key !== 'name');
}

function mountProblems(mount: VolumeMount, kind: string | undefined): string[] {
  const what = `volume ${mount.name} at ${mount.mountPath}`;
  const problems = Object.keys(mount)
    .filter((field) => !MOUNT_FIELDS.has(field))
    .map((field) => `${what}: ${field} cannot be carried over`);
  if (kind === undefined) problems.push(`${what}: the Task declares no such volume`);
  else if (![...WRITABLE_KINDS, ...READ_ONLY_KINDS].includes(kind)) {
    problems.push(`${what}: ${kind} belongs to the node or the cluster and cannot be carried over`);
  }
  return [...problems, ...pathProblems(what, mount.mountPath)];
}

function pathProblems(what: string, at: string): string[] {
  const problems = [
    ...(at.includes(':') ? ['has a colon in it'] : []),
    ...(at.includes('$(') ? ['holds a variable, but it must be known beforehand'] : []),
    ...(at.startsWith('/') ? [] : ['is not absolute']),
    ...(/^\/(?:ssh|tekton)?(?:\/|$)/.test(normal(at)) ? ['is taken'] : []),
  ];
  return problems.map((problem) => `${what}: the path ${at} ${problem}`);
}

/** The same files in two places would be two copies on the host. */
function repeated(mounts: readonly VolumeMount[]): string[] {
  const areSame = (one: VolumeMount, other: VolumeMount): boolean =>
    one.name === other.name &&
    (one.subPath === undefined || other.subPath === undefined || one.subPath === other.subPath);
  return mounts
    .filter((one, i) => mounts.slice(0, i).some((other) => areSame(one, other)))
    .map(({ name, mountPath }) => `volume ${name} at ${mountPath}: it is mounted elsewhere as well`);
}

function normal(at: string): string {
  return path.posix.normalize(at).replace(/(?<=.)\/$/, '');
}

/** Those of the paths that lie in this one, seen from there. */
function inside(outer: string, paths: readonly string[]): string[] {
  return paths.filter((one) => one.startsWith(`${outer}/`)).map((one) => one.slice(outer.length));
}

/** To rsync a backslash is a backslash unless there is a wildcard; within brackets both agree. */
function patternOf(text: string): string {
  return text.replaceAll(/[*?[\\]/g, (special) => (special === '\\' ? String.raw`[\\]` : `[${special}]`));
}
