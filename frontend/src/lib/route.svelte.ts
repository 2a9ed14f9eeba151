// Where the page is: a path and a query, both real addresses that the server answers with this page.

/** A part of a path in plain words; as it stands where a % in it is no escape. */
function plain(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

class Place {
  path = $state(location.pathname);
  search = $state(location.search);
  visit = $state(0); // counts arrivals: a view that reads its query once begins anew with each

  get parts(): string[] {
    return this.path.split("/").filter(Boolean).map(plain);
  }

  get query(): URLSearchParams {
    return new URLSearchParams(this.search);
  }

  read(): void {
    this.path = location.pathname;
    this.search = location.search;
    this.visit++;
  }
}

export const place = new Place();
addEventListener("popstate", () => place.read());

export function go(address: string): void {
  history.pushState(null, "", address);
  place.read();
  scrollTo(0, 0);
}

/** The same view with another query: the address follows what is typed, without a step in the history. */
export function keep(query: URLSearchParams): void {
  const text = query.toString();
  history.replaceState(null, "", location.pathname + (text ? `?${text}` : ""));
  place.search = location.search;
}

/** Follow plain clicks on our own links without loading the page again. */
export function follow(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
  const link = (event.target as Element).closest("a");
  if (link === null || link.target !== "" || link.origin !== location.origin) return;
  if (link.pathname.startsWith("/api/") || link.hash !== "") return;
  event.preventDefault();
  go(link.pathname + link.search);
}

/** Whether a key press belongs to a field that is being typed in. */
export function typing(event: KeyboardEvent): boolean {
  const at = event.target as HTMLElement;
  return event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName);
}
