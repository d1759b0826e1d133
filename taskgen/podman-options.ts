import type { SecurityContext } from './task.ts';

/** What `podman run` is told so that the container may what the securityContext says, and what it cannot be told. */
export function planPodmanOptions({ capabilities, ...context }: SecurityContext): {
  options: string[];
  reasons: string[];
} {
  const options = [
    ...(capabilities?.drop ?? []).map((name) => `--cap-drop=${name}`),
    ...(capabilities?.add ?? []).map((name) => `--cap-add=${name}`),
  ];
  const reasons: string[] = [];
  for (const [field, value] of Object.entries(context)) {
    const option = optionFor(field, value);
    if (option === undefined) reasons.push(`securityContext.${field}: ${JSON.stringify(value)} cannot be carried over`);
    else options.push(...option);
  }
  return { options, reasons };
}

function optionFor(field: string, value: unknown): string[] | undefined {
  switch (field) {
    case 'privileged':
      return value === true ? ['--privileged'] : [];
    case 'readOnlyRootFilesystem':
      return value === true ? ['--read-only'] : [];
    case 'allowPrivilegeEscalation':
      return value === false ? ['--security-opt=no-new-privileges'] : [];
    // In its container on the host a step is root, which outside of it is the account.
    case 'runAsUser':
    case 'runAsGroup':
      return value === 0 ? [] : undefined;
    case 'runAsNonRoot':
      return value === false ? [] : undefined;
    default:
      return undefined;
  }
}
