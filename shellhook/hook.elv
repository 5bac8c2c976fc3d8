# LocalPort's hook for elvish, 0.19 and newer: eval (localport hook elvish | slurp)
#
# A prompt where nothing changed starts no process: it reads the prompt's line, the project's files and the supervisor's /proc/PID/stat.
# It compares contents, because elvish 0.19 cannot tell a file's age. What elvish cannot do:
# - notice that the supervisor was killed where there is no /proc: it has no kill;
# - tell the time where there is no /proc/uptime: a failed export is then repeated after some prompts instead of some seconds.
#
# The line above sets $__localport_exe. All variables belong to the code of this eval, none is exported. `localport export` sets those of
# __localport_eval.

use path
use str

var __localport_root = '' # the project that this shell is in
var __localport_dir = '' # where LocalPort keeps what prompts compare with
var __localport_line = '' # the line in $__localport_dir/prompt, at the last export
var __localport_told = '' # hash of the error that this shell last printed
var __localport_retry = '' # what `localport export` has to retry; it is passed back
var __localport_diff = '' # a copy of LOCALPORT_DIFF
var __localport_variables = '' # the names of the project's variables in this shell
var __localport_unfinished = '' # directories, each with a newline, of exports that may have entered a project before they were interrupted
var __localport_recheck = '' # 1 if an export at a cd found variables missing that another hook may set before the prompt
var __localport_tried = '' # set by `localport export`, and not used
var __localport_uses = [] # the names of the variables that [env] uses

var pwd-seen = '' # the directory of the last prompt; '' before the first
var pwd-physical = '' # the same without symbolic links
var files-seen = '' # the project's files, as they were before the last export
var used-seen = [] # the values of the variables in $__localport_uses at the last export
var tools-seen = '' # what direnv and mise had changed at the last export
var ours = [&] # of the project's variables: our values, and what was there before
var undo = 0 # at how many prompts after leaving what another hook puts back is undone
var tried = '' # the last reason for an export, and how many exports did not resolve it
var tries = 0
var code = 0 # exit status of the last export
var wait = 0 # seconds until it is repeated; 0: it is not repeated
var since = 0 # when it ran
var missing = $false # the message about the missing program has been shown
var prompts = 0 # counted where there is no clock

# eval sees only those variables of the outer scope that its function mentions.
fn __localport_eval {|statements|
  nop $__localport_root $__localport_dir $__localport_line $__localport_told $__localport_retry $__localport_diff $__localport_variables ^
    $__localport_unfinished $__localport_recheck $__localport_tried $__localport_uses $since
  eval $statements
}

fn exists {|file| path:is-regular &follow-symlink=$true $file }

fn read-file {|file|
  if (exists $file) {
    try { slurp < $file } catch e { put unreadable }
  } else {
    put ''
  }
}

# read-files returns the contents of the three files; a missing file differs from an empty one.
fn read-files {|root|
  var all = ''
  for name [.localport.toml .localport.local.toml .env] {
    set all = $all(to-string (exists $root/$name))' '(read-file $root/$name)"\x00"
  }
  put $all
}

fn read-used {
  put [(for name $__localport_uses {
    if (has-env $name) { put =(get-env $name) } else { put unset }
  })]
}

fn read-tools { put $E:DIRENV_DIFF$E:__MISE_DIFF }

# environment returns the values of the named variables that are set.
fn environment {|names|
  var values = [&]
  for name $names {
    if (has-env $name) { set values[$name] = (get-env $name) }
  }
  put $values
}

# list-set returns the names of the variables that statements set.
fn list-set {|statements|
  for line [(str:split "\n" $statements)] {
    var words = [(str:split ' ' $line)]
    if (and (eq $words[0] set-env) (not-eq $words[1] LOCALPORT_DIFF)) { put $words[1] }
  }
}

# remember stores what the variables were before an export that has set them. A value that it has set before is the first one's: what another
# tool finds, and may put back.
fn remember {|before names|
  for name $names {
    var value = (get-env $name)
    if (not (has-key $ours $name)) { set ours[$name] = [&] }
    if (not (has-key $ours[$name] $value)) {
      set ours[$name][$value] = (if (has-key $before $name) { put [$before[$name]] } else { put [] })
    }
  }
}

# undo-again restores variables that have our values again, because another hook that was entered later has put back what it found.
fn undo-again {
  for name [(keys $ours)] {
    if (and (has-env $name) (has-key $ours[$name] (get-env $name))) {
      var previous = $ours[$name][(get-env $name)]
      if (eq $previous []) { unset-env $name } else { set-env $name $previous[0] }
    }
  }
  set undo = (- $undo 1)
  if (== $undo 0) { set ours = [&] }
}

# now tells the time in whole seconds.
fn now {
  if (exists /proc/uptime) {
    num [(str:split . (slurp < /proc/uptime))][0]
  } else {
    put $prompts
  }
}

fn is-due {
  var t = (now)
  or (< $t $since) (>= $t (+ $since $wait))
}

# is-gone tells whether the process PID START has ended. Field 22 of /proc/PID/stat is the start time, field 3 the state, field 2 a name
# in parentheses that may hold anything.
fn is-gone {|pid start|
  if (or (eq $pid 0) (not (exists /proc/self/stat))) {
    put $false
  } else {
    var stat = [(str:split ')' (read-file /proc/$pid/stat))]
    var fields = [(str:split ' ' $stat[-1])]
    if (< (count $fields) 21) {
      put $true
    } else {
      or (eq $fields[1] Z) (eq $fields[1] X) (not-eq $fields[20] $start)
    }
  }
}

# compare returns why the project at $__localport_root needs an export; '' if it does not.
fn compare {
  var line files = '' (read-files $__localport_root)
  if (not-eq $__localport_dir '') {
    set line = (str:trim-right (read-file $__localport_dir/prompt) "\n")
  }
  if (not-eq $line $__localport_line) {
    put 'line '$line' '$pwd-seen
  } elif (not-eq $files $files-seen) {
    put 'file '$pwd-seen' '$files # each edit is another reason
  } elif (eq $line '') {
    put ''
  } else {
    var words = [(str:split ' ' $line) 0 0]
    if (is-gone $words[1] $words[2]) { put 'gone '$line' '$pwd-seen } else { put '' }
  }
}

# find-root returns the directory of the nearest .localport.toml; '' if there is none.
fn find-root {|dir|
  while $true {
    if (exists (path:join $dir .localport.toml)) {
      put $dir
      return
    }
    if (eq $dir (path:dir $dir)) {
      put ''
      return
    }
    set dir = (path:dir $dir)
  }
}

# find-program returns localport: at the path that the hook was installed with or, if an upgrade has removed that, the first one in PATH.
fn find-program {
  for program [$__localport_exe (for dir $paths { put $dir/localport })] {
    if (and (str:has-prefix $program /) (has-external $program)) {
      put $program
      return
    }
  }
  put ''
}

# report-missing says once that there is no program. The next prompts look for it, without a process.
fn report-missing {
  set code wait tries since = missing 1 0 0
  if $missing { return }
  set missing = $true
  if (eq $__localport_root '') {
    echo 'localport: cannot run '$__localport_exe', and PATH has no localport: the services of this directory are not started' >&2
    echo 'hint: install localport again in a directory of PATH' >&2
  } else {
    echo 'localport: cannot run '$__localport_exe', and PATH has no localport: this shell keeps the variables and forwards of '$__localport_root >&2
    echo 'hint: install localport again; or undo by hand: '(str:join '; ' [(for name [(str:split ' ' (str:trim-left $__localport_variables' LOCALPORT_DIFF' ' '))] {
      put 'unset-env '$name
    })])'; the forwards end when the last shell that uses them exits' >&2
  }
}

# export runs `localport export`. If that fails once, or does not resolve the reason three times (something may have changed meanwhile), it
# is repeated after 5, 10, … 60 s with a limit of 200 ms. Status 3 and 4, a config that is invalid or not allowed, are final: the hook
# detects what changes them. An interrupt ends it: what is set before the call is as after a failure.
fn export {|why root at-cd|
  if (not-eq $why $tried) {
    set tried = $why
    set tries = 0
  }
  var program = (find-program)
  if (eq $program '') {
    report-missing
    return
  }
  set missing = $false
  var options = [$@at-cd]
  if (== $tries 3) {
    if (or (== $wait 0) (not (is-due))) { return }
    set options = [$@options --limit=200ms]
  } elif (and (eq $why again) (not-eq $code missing)) {
    set options = [$@options --limit=200ms]
  }
  if (not-eq $__localport_diff '') { set-env LOCALPORT_DIFF $__localport_diff }
  if (not-eq $__localport_unfinished '') { set options = [$@options --unfinished=$__localport_unfinished] }
  if (not (str:contains "\n"$__localport_unfinished "\n"$pwd-seen"\n")) { set __localport_unfinished = $__localport_unfinished$pwd-seen"\n" }
  set files-seen = (read-files $root)
  var last-wait last-tries = $wait $tries
  set code wait since tries = 1 (if (== $wait 0) { num 5 } else { put $wait }) (now) 3
  var status = 0
  var statements = ({
    try {
      (external $program) export elvish --pid $pid --root $__localport_root --line $__localport_line --told $__localport_told ^
        --retry $__localport_retry --saves --tools $@options < /dev/null
    } catch e {
      set status = (try { put $e[reason][exit-status] } catch e { put 1 })
    }
  } | slurp)
  set code = $status
  if (and (== $code 0) (< $last-tries 2)) {
    set tries wait = (+ $last-tries 1) 0
  } elif (or (== $code 3) (== $code 4)) {
    set wait = 0
  } else {
    set wait = (if (< $last-wait 60) { + $last-wait 5 } else { num 60 })
  }
  var names last-root = [(list-set $statements)] $__localport_root
  var before = (environment $names)
  __localport_eval $statements
  if (not-eq $__localport_root $last-root) {
    if (eq $__localport_root '') { set undo = 3 } else { set undo ours = 0 [&] }
  }
  if (not-eq $__localport_root '') { remember $before $names }
  if (has-value [0 3 4] $code) { set __localport_unfinished = '' } # also if an older localport does not set it
  set used-seen tools-seen = (read-used) (read-tools)
  if (not-eq $__localport_root $root) { set files-seen = (read-files $__localport_root) }
}

# check is called before a prompt and after a cd; at-cd is then [--cd].
fn check {|at-cd|
  var why = ''
  if (and (!= $undo 0) (eq $at-cd [])) { undo-again }
  var here = $pwd-seen
  try {
    if (not-eq $pwd /unknown/pwd) { set here = $pwd } # what it is in a deleted directory
  } catch e {
    nop
  }
  var is-first is-new = (eq $pwd-seen '') (not-eq $here $pwd-seen)
  if $is-new {
    set pwd-seen = $here
    set pwd-physical = (try { path:eval-symlinks $here } catch e { put $here })
  }
  # Each prompt walks up: a config may have appeared above or between.
  var root = (find-root $pwd-physical)
  if (not-eq $root $__localport_root) {
    set why = 'enter '$root' '$here
  } elif (and $is-new (eq $root '') (not-eq $__localport_unfinished '')) {
    set why = 'leave '$here
  } elif (and $is-first (eq $root '') (has-env LOCALPORT_DIFF)) {
    set why = inherited
  }
  if (and (eq $why '') (not-eq $root '')) {
    set why = (compare)
  }
  if (and (eq $why '') (not-eq $__localport_uses [])) {
    var used = (read-used)
    if (not-eq $used $used-seen) { set why = 'variables '(to-string $used) }
  }
  if (and (eq $why '') (not-eq $root '') (not-eq (read-tools) $tools-seen)) {
    set why = 'tools '(read-tools)
  }
  if (and (eq $why '') (not-eq $__localport_recheck '') (eq $at-cd [])) {
    set why = recheck
  }
  if (and (eq $why '') (!= $wait 0)) {
    if (eq $code missing) {
      set why = again
    } elif (== $code 0) {
      set wait = 0
    } elif (is-due) {
      set why = again
    }
  }
  if (eq $why '') {
    set tried = ''
  } else {
    export $why $root $at-cd
  }
}

# others drops the functions of an earlier evaluation of this hook. Builtin functions have no body.
fn others {|functions|
  for f $functions {
    if (not (try { str:contains $f[body] 'check [' } catch e { put $false })) { put $f }
  }
}

# The prompt's function is the last one from the second prompt on, so that it sees what others have set. What those after it have set at the
# first one is seen before the command runs.
var is-early = $false
fn __localport_prompt {
  set prompts = (+ $prompts 1)
  check []
  if (not (try { str:contains $edit:before-readline[-1][body] 'check [' } catch e { put $false })) {
    set edit:before-readline = [(others $edit:before-readline) $__localport_prompt~]
    set is-early = $true
  }
}
fn __localport_command {|_|
  if $is-early {
    set is-early = $false
    check [] # again
  }
}
fn __localport_cd {|_| check [--cd] }

set edit:before-readline = [(others $edit:before-readline) $__localport_prompt~]
set edit:after-readline = [(others $edit:after-readline) $__localport_command~]
set after-chdir = [(others $after-chdir) $__localport_cd~]
