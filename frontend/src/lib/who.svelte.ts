// The name that a person typed, kept by the browser: ratings, thumbs and cases are stored with it.

const KEY = "glasshouse-who";

class Who {
  name = $state(localStorage.getItem(KEY) ?? "");

  set(name: string): void {
    this.name = name.trim();
    localStorage.setItem(KEY, this.name);
  }
}

export const who = new Who();
