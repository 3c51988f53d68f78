// A bundle is this function, called with the text of each module by its path
// and the path of the one to begin with (CommonJS, as Node.js has it).
(function load(files, entry) {
  const made = {};

  // resolve finds what a module at path from means by name.
  function resolve(from, name) {
    let path = 'node_modules/' + name;
    if (name.startsWith('.')) {
      const parts = from.split('/').slice(0, -1);
      for (const part of name.split('/')) {
        if (part === '..') parts.pop();
        else if (part !== '.') parts.push(part);
      }
      path = parts.join('/');
    } else if (files[path + '/package.json']) {
      const about = JSON.parse(files[path + '/package.json']);
      path += '/' + (typeof about.browser === 'string' ? about.browser : about.main ?? 'index.js').replace(/^\.\//, '').replace(/\/$/, '');
    }
    for (const found of [path, path + '.js', path + '/index.js']) if (found in files) return found;
    throw new Error(`${from}: no module ${name}`);
  }

  function module(path) {
    if (made[path]) return made[path].exports;
    const it = made[path] = { exports: {} };
    if (path.endsWith('.json')) it.exports = JSON.parse(files[path]);
    else new Function('require', 'module', 'exports', files[path])((name) => module(resolve(path, name)), it, it.exports);
    return it.exports;
  }

  module(entry);
})
