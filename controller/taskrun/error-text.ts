import { HOST_CONFIG_NAME } from '#shared/names.ts';
import { PLATFORM_HINT } from '#shared/platform.ts';

import type { PlatformParam } from './view.ts';

/** What the `error` Secret says: read in a build log by somebody who knows the build and not us. What happened, where, what to do. */

/** Longer values would bury the message; a parameter can be megabytes. */
const MAX_VALUE_LENGTH = 80;

export function malformedPlatform(platform: PlatformParam): string {
  const what = platform.kind === 'string' ? show(platform.value) : 'a list or an object';
  return `The parameter PLATFORM is ${what}, which is not a platform: ${PLATFORM_HINT}. Correct the parameter and run the build again.`;
}

export function unknownPlatform(platform: string, known: readonly string[]): string {
  const list = known.length === 0 ? 'No platform is configured' : `There are hosts for ${known.join(', ')}`;
  return `No build host is configured for the platform ${show(platform)}. ${list}. Correct the parameter PLATFORM, or ask the administrators of this cluster to add a host.`;
}

export function allHostsFailed(platform: string, failures: ReadonlyMap<string, string>): string {
  const lines = [...failures].map(([host, why]) => `- ${host}: ${why}`);
  return [
    `No account could be made on any build host for ${show(platform)}. What went wrong on each:`,
    ...lines,
    'Run the build again; if it fails the same way, ask the administrators of this cluster to look at these hosts.',
  ].join('\n');
}

export function waitedTooLong(platform: string, timeoutMs: number): string {
  return `No build host for ${show(platform)} became free within ${Math.round(timeoutMs / 1000)} s. Run the build again later, or ask the administrators of this cluster for more hosts.`;
}

export function noHostList(why: string): string {
  return `The list of build hosts (ConfigMap ${HOST_CONFIG_NAME}) cannot be used: ${why}. Ask the administrators of this cluster to correct it, then run the build again.`;
}

function show(value: string): string {
  return JSON.stringify(value.length > MAX_VALUE_LENGTH ? `${value.slice(0, MAX_VALUE_LENGTH)}…` : value);
}
