"""Style of a gate's page: the few classes of GX's own sheet that its pages still need, and nothing to load.

A module rather than a file, so that the code digest covers what the page's bytes depend on.
"""

CSS = """\
:root { color-scheme: light dark; --line: #8884; --bad: #b3261e; --good: #1b7f3b; --warn: #9a6700; --soft: #8881; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --good: #7bd88f; --warn: #e3b341; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1.5rem; }
h1 { font-size: 1.4rem; }
h4, h5, h6 { margin: .6rem 0 .3rem; font-size: 1rem; }
.lead { margin-top: 0; opacity: .8; }
.card, .ge-section { border: 1px solid var(--line); border-radius: 6px; margin: 1rem 0; padding: .6rem 1rem; }
.ge-section { overflow-x: auto; }
.nav { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
td { overflow-wrap: anywhere; }
.alert { background: var(--soft); border-radius: 4px; padding: .3rem .6rem; }
.badge { background: var(--soft); border-radius: 4px; padding: 0 .3rem; }
.text-danger { color: var(--bad); }
.text-success { color: var(--good); }
.text-warning { color: var(--warn); }
.fa-times::before { content: "failed"; font-style: normal; font-weight: 600; }
.fa-check-circle::before { content: "passed"; font-style: normal; }
.fa-exclamation-triangle::before { content: "error"; font-style: normal; }
"""
