/** RFC 1035 label, as Kubernetes applies it: at most 63 lower-case letters, digits and `-`, a letter first. */
export const DNS_1035_LABEL = /^[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?$/;

/** `linux/x86_64` has an underscore and no label has; existing Tasks use it all the same. */
export const EXTRA_PLATFORMS: ReadonlySet<string> = new Set(['local', 'localhost', 'linux/x86_64']);

/** What to tell somebody whose platform is not one. */
export const PLATFORM_HINT =
  'a platform looks like "linux/arm64": an operating system and an architecture in lower case';

/** True for `label/label` (DNS-1035 labels), `local`, `localhost` and `linux/x86_64`. */
export function isPlatform(value: string): boolean {
  if (EXTRA_PLATFORMS.has(value)) return true;
  const parts = value.split('/');
  return parts.length === 2 && parts.every((part) => DNS_1035_LABEL.test(part));
}

/**
 * A platform as a label value: `/` becomes `-`, what a label value cannot hold becomes `-`, and it is cut to 63 characters
 * (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set).
 */
export function platformLabel(platform: string): string {
  return platform
    .replaceAll(/[^A-Za-z0-9._-]/g, '-')
    .slice(0, 63)
    .replaceAll(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, '');
}
