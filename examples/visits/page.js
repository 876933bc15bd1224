// What the buttons under "Try what is promised" do: each sends the requests of its trial with the session of this provider and, where
// the page has it, with that of beego's own, and tells how it went.

'use strict';

// One can follow with the eye what happens. What comes of it depends on no time: the requests wait for each other in the server.
const pause = () => new Promise(done => setTimeout(done, 800));

// Side is the part of the page that tells of a trial with one provider.
class Side {
  constructor(element) {
    this.base = element.dataset.base;
    this.told = element.querySelector('[role=status]');
    this.steps = document.createElement('ol');
    this.steps.className = 'steps';
    this.told.replaceChildren(this.steps);
  }

  // step shows that something is under way until the promise is kept.
  async step(text, promise) {
    const li = document.createElement('li');
    li.textContent = text;
    li.className = 'busy';
    this.steps.append(li);
    const result = await promise;
    li.className = '';
    return result;
  }

  verdict(good, finding, detail) {
    const p = document.createElement('p');
    p.className = good ? 'verdict' : 'verdict bad';
    const strong = document.createElement('strong');
    strong.textContent = finding;
    p.append(strong, ' ' + detail);
    this.told.append(p);
  }

  get() { return ask(this.base + '/trials'); }
  post(action, fields) { return ask(this.base + '/trials/' + action, fields); }
}

// ask sends a request, which is a post where it has fields. The header is one that no form of another site can send.
async function ask(path, fields, credentials = 'same-origin') {
  const answer = await fetch(path, {
    method: fields ? 'POST' : 'GET',
    headers: { 'X-Requested-With': 'XMLHttpRequest' },
    body: fields && new URLSearchParams(fields),
    credentials,
  });
  if (!answer.ok) throw new Error(`the answer to ${path} was ${answer.status} ${answer.statusText}`);
  return answer.json();
}

const trials = {
  async together(side) {
    const count = (state, item) => (state.basket || {})[item] || 0;
    const before = await side.get(); // and with that both requests have the same session
    await Promise.all([
      side.step('One request adds bread', Promise.all([pause(), side.post('together', { item: 'Bread' })])),
      side.step('Another adds coffee', Promise.all([pause(), side.post('together', { item: 'Coffee' })])),
    ]);
    const after = await side.get();
    const change = item => `${item}\u00a0${count(before, item)}\u00a0→\u00a0${count(after, item)}`;
    const added = ['Bread', 'Coffee'].filter(item => count(after, item) > count(before, item)).length;
    side.verdict(added === 2, added === 2 ? 'Both arrived.' : added === 1 ? 'One is lost.' : 'Both are lost.', `${change('Bread')}, ${change('Coffee')}.`);
  },

  async late(side) {
    const before = await side.get();
    const name = before.name || 'Ada';
    await side.step(`Log in as ${name}`, Promise.all([pause(), side.post('login', { name })]));
    const late = side.post('late', { item: 'Cheese' });
    late.catch(() => {}); // it is told below
    await side.step('A slow request begins', pause());
    await side.step('Log out', Promise.all([pause(), side.post('logout', {})]));
    const left = await side.step('The slow request adds cheese, and ends', late);
    side.verdict(!left.found, left.found ? 'The session is back.' : 'The session is gone.', left.found
      ? `Its old id opens it again: ${left.name} is logged in.`
      : 'Its old id opens nothing.');
  },
};

// refresh shows what the trials have made of the session, without leaving them.
async function refresh() {
  const answer = await fetch('/');
  const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
  for (const id of ['state', 'devices']) document.getElementById(id).replaceWith(page.getElementById(id));
  document.title = page.title;
}

document.addEventListener('click', async event => {
  const button = event.target.closest('button[data-trial], button[data-elsewhere]');
  if (!button || button.ariaDisabled === 'true') return;
  button.ariaDisabled = 'true'; // and not disabled, which would lose the focus
  try {
    if (button.dataset.trial) {
      const sides = button.parentElement.querySelectorAll('[data-base]');
      await Promise.all(Array.from(sides, async element => {
        const side = new Side(element);
        try {
          await trials[button.dataset.trial](side);
        } catch (error) {
          side.verdict(false, 'That did not work:', error.message + '.');
        }
      }));
    } else {
      // Without the cookies of this browser, as another would.
      await ask('/trials/login', { name: button.dataset.elsewhere }, 'omit');
    }
    await refresh();
  } catch (error) {
    alert(error.message);
  } finally {
    button.ariaDisabled = 'false';
  }
});
