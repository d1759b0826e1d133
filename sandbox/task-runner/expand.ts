const REFERENCE = /\$(?:\$|\(([^()]*)\))/g;

/**
 * `$(NAME)` replaced by the variable's value, where it is known; `$$` is a plain `$`. That is how the kubelet reads commands,
 * arguments and variables of a container (kubernetes.io/docs/reference/kubernetes-api: Container, `command`).
 */
export function expand(text: string, env: ReadonlyMap<string, string>): string {
  return text.replaceAll(REFERENCE, (all, name: string | undefined) =>
    name === undefined ? '$' : (env.get(name) ?? all),
  );
}
