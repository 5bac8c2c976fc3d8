# LocalPort's hook for nushell, tested with 0.115. nushell has no eval: save this file where nushell loads it at its start,
#   mkdir ($nu.data-dir | path join vendor/autoload)
#   localport hook nu | save -f ($nu.data-dir | path join vendor/autoload/localport.nu)
# and save it again after an upgrade of LocalPort. nushell reads that directory after config.nu. Aliases count in the hook if they are defined
# before it: if config.nu has one for open or lines, save the hook elsewhere and source it at the beginning of config.nu.
#
# A prompt where nothing changed starts no process: it reads the prompt's line, the project's files and the supervisor's /proc/PID/stat. What
# nushell cannot do:
# - look at a cd before the next prompt: the event env_change.PWD comes with the prompt;
# - hold values that are not UTF-8;
# - show what `localport export` says before it ends;
# - notice that the supervisor was killed where there is no /proc: it cannot ask for a process without starting ps.
#
# The state is a record in $env, which programs do not get. `localport export` prints JSON objects, one in a line.

$env.__localport = ({
  root: "" # the project that this shell is in
  dir: "" # where LocalPort keeps what prompts compare with
  line: "" # the line in the file prompt of that directory, at the last export
  told: "" # hash of the error that this shell last printed
  retry: "" # what `localport export` has to retry; it is passed back
  diff: "" # a copy of LOCALPORT_DIFF
  recheck: ""
  variables: "" # the names of the project's variables in this shell
  unfinished: "" # directories, each with a newline, of exports that may have entered a project before they were interrupted
  missing: false # the message about the missing program has been shown
  uses: [] # the names of the variables that [env] uses
  used: [] # their values at the last export
  tools: "" # what direnv and mise had changed at the last export
  ours: [] # of the project's variables: our values, and what was there before
  undo: 0 # at how many prompts after leaving what another hook puts back is undone
  files: [] # the project's files, as they were before the last export
  pwd: "" # the directory of the last prompt; "" before the first
  tried: "" # the last reason for an export, and how many exports did not resolve it
  tries: 0
  code: 0 # exit status of the last export
  wait: 0 # seconds until it is repeated; 0: it is not repeated
  since: 0 # when it ran
} | merge ($env.__localport? | default {}))

# null if it is no regular file: a named pipe would block
def __localport_read [file: string] {
  if ($file | path expand | path type) == "file" { try { open --raw $file } catch { "unreadable" } }
}

def __localport_files [root: string] {
  [.localport.toml .localport.local.toml .env] | each {|name| {content: (__localport_read ($root | path join $name))} }
}

def __localport_used [names: list] {
  let environment = $env
  $names | each {|name| {value: ($environment | get --optional $name)} }
}

def __localport_tools [] { $"($env.DIRENV_DIFF? | default '')($env.__MISE_DIFF? | default '')" }

# Stores what the variables were before an export that has set them. A value that it has set before is the first one's: what another tool
# finds, and may put back.
def --env __localport_remember [before: record, names: list] {
  let environment = $env
  mut ours = $env.__localport.ours
  for name in $names {
    let value = ($environment | get --optional $name)
    if not ($ours | any {|known| $known.name == $name and $known.value == $value }) {
      $ours = ($ours | append {name: $name, value: $value, was: ($before | get --optional $name)})
    }
  }
  $env.__localport.ours = $ours
}

# Restores variables that have our values again, because another hook that was entered later has put back what it found.
def --env __localport_undo_again [] {
  let environment = $env
  for our in $env.__localport.ours {
    if ($environment | get --optional $our.name) == $our.value {
      if $our.was == null { hide-env --ignore-errors ($our.name) } else { load-env {($our.name): $our.was} }
    }
  }
  $env.__localport.undo -= 1
  if $env.__localport.undo == 0 { $env.__localport.ours = [] }
}

def __localport_now [] { (date now | into int) // 1_000_000_000 }

def __localport_is_due [] {
  let now = (__localport_now)
  $now < $env.__localport.since or $now >= ($env.__localport.since + $env.__localport.wait)
}

# Whether the process has ended. Field 22 of /proc/PID/stat is the start time, field 3 the state, field 2 a name in parentheses that may
# hold anything.
def __localport_is_gone [pid: string, start: string] {
  if $pid == "0" or (__localport_read /proc/self/stat) == null { return false }
  let stat = (__localport_read $"/proc/($pid)/stat")
  if $stat == null { return true }
  let fields = ($stat | into binary | decode latin1 | split row ")" | last | split row " ")
  ($fields | length) < 21 or $fields.1 in [Z X] or $fields.20 != $start
}

# Why the project needs an export; "" if it does not.
def __localport_compare [] {
  let state = $env.__localport
  let line = (if $state.dir == "" { "" } else {
    __localport_read ($state.dir | path join prompt) | default "" | str trim --right
  })
  if $line != $state.line { return $"line ($line) ($state.pwd)" }
  let files = (__localport_files $state.root)
  if $files != $state.files { return $"file ($state.pwd) ($files | to nuon)" } # each edit is another reason
  if $line == "" { return "" }
  let words = ($line | split row " " | append [0 0])
  if (__localport_is_gone $words.1 $words.2) { $"gone ($line) ($state.pwd)" } else { "" }
}

# The directory of the nearest .localport.toml, without symbolic links; "" if there is none.
def __localport_find_root [dir: string] {
  mut at = $dir
  loop {
    if ($at | path join .localport.toml | path exists) { return $at }
    let parent = ($at | path dirname)
    if $parent == $at or $parent == "" { return "" }
    $at = $parent
  }
}

def --env __localport_apply [output: string] {
  let before = $env
  let statements = ($output | lines | each { from json })
  for statement in $statements {
    match $statement.do {
      "set" => { $env.__localport = ($env.__localport | merge {($statement.name | str replace "__localport_" ""): $statement.value}) }
      "watch" => { $env.__localport.uses = $statement.names }
      "unset" => { hide-env --ignore-errors ($statement.name) }
      "export" => {
        let convert = ($env.ENV_CONVERSIONS? | default {} | get --optional $statement.name | default {} | get --optional from_string)
        if $convert != null {
          load-env {($statement.name): (do $convert $statement.value)}
        } else if $statement.name == PATH {
          load-env {PATH: ($statement.value | split row (char esep))}
        } else {
          load-env {($statement.name): $statement.value}
        }
      }
    }
  }
  let root = $env.__localport.root
  if $root != $before.__localport.root {
    $env.__localport.undo = (if $root == "" { 3 } else { 0 })
    if $root != "" { $env.__localport.ours = [] }
  }
  if $root != "" {
    __localport_remember $before ($statements | where do == "export" and name != "LOCALPORT_DIFF" | get name)
  }
}

# localport: at the path that the hook was installed with or, if an upgrade has removed that, the first one in PATH; "" if there is none.
def __localport_find_program [] {
  let found = (which --all localport | where type == external | get path | where ($it | str starts-with "/"))
  let installed = (__localport_exe)
  if ($installed | path exists) { $installed } else { $found | append "" | first }
}

# Says once that there is no program. The next prompts look for it, without a process.
def --env __localport_report_missing [] {
  let state = $env.__localport
  $env.__localport = ($state | merge {code: missing, wait: 1, tries: 0, since: 0, missing: true})
  if $state.missing { return }
  let cannot = $"localport: cannot run (__localport_exe), and PATH has no localport:"
  if $state.root == "" {
    print --stderr $"($cannot) the services of this directory are not started"
    print --stderr "hint: install localport again in a directory of PATH"
  } else {
    print --stderr $"($cannot) this shell keeps the variables and forwards of ($state.root)"
    print --stderr $"hint: install localport again; or undo by hand: hide-env ($state.variables) LOCALPORT_DIFF; the forwards end when the last shell that uses them exits"
  }
}

# Runs `localport export`. If that fails once, or does not resolve the reason three times (something may have changed meanwhile), it is
# repeated after 5, 10, … 60 s with a limit of 200 ms. Status 3 and 4, a config that is invalid or not allowed, are final: the hook detects
# what changes them. An interrupt ends it: what is set before the call is as after a failure.
def --env __localport_export [why: string, root: string] {
  if $why != $env.__localport.tried {
    $env.__localport.tried = $why
    $env.__localport.tries = 0
  }
  let exe = (__localport_find_program)
  if $exe == "" {
    __localport_report_missing
    return
  }
  let state = $env.__localport
  if $state.tries == 3 and ($state.wait == 0 or not (__localport_is_due)) { return }
  let limit = (if $state.tries == 3 or ($why == again and $state.code != missing) { ["--limit=200ms"] } else { [] })
  let earlier = (if $state.unfinished == "" { [] } else { [$"--unfinished=($state.unfinished)"] })
  let unfinished = ($state.unfinished | lines | append $state.pwd | uniq | each { $in + "\n" } | str join)
  let environment = (if $state.diff == "" { {} } else { {LOCALPORT_DIFF: $state.diff} })
  let failure = {code: 1, tries: 3, since: (__localport_now), missing: false, unfinished: $unfinished}
  $env.__localport = ($state | merge $failure | merge {files: (__localport_files $root), wait: ([$state.wait 5] | math max)})
  let result = (try {
    with-env $environment {
      open --raw /dev/null | ^$exe export nu --pid $nu.pid --root $state.root --line $state.line --told $state.told --retry $state.retry --saves --tools ...$limit ...$earlier | complete
    }
  } catch {
    {exit_code: 1, stdout: "", stderr: ""}
  })
  if $result.stderr != "" { print --stderr --no-newline $result.stderr }
  $env.__localport = ($env.__localport | merge (if $result.exit_code == 0 and $state.tries < 2 {
    {code: 0, tries: ($state.tries + 1), wait: 0}
  } else if $result.exit_code in [3 4] {
    {code: $result.exit_code, wait: 0}
  } else {
    {code: $result.exit_code, wait: ([($state.wait + 5) 60] | math min)}
  }))
  __localport_apply $result.stdout
  if $result.exit_code in [0 3 4] { $env.__localport.unfinished = "" } # also if an older localport does not set it
  $env.__localport.used = (__localport_used $env.__localport.uses)
  $env.__localport.tools = (__localport_tools)
  if $env.__localport.root != $root { $env.__localport.files = (__localport_files $env.__localport.root) }
}

def --env __localport_check [] {
  if $env.__localport.undo != 0 { __localport_undo_again }
  let state = $env.__localport
  let here = $env.PWD
  let physical = (try { $here | path expand } catch { $here })
  # Each prompt walks up: a config may have appeared above or between.
  let root = (__localport_find_root $physical)
  mut why = ""
  $env.__localport.pwd = $here
  if $root != $state.root {
    $why = $"enter ($root) ($here)"
  } else if $here != $state.pwd and $root == "" and $state.unfinished != "" {
    $why = $"leave ($here)"
  } else if $state.pwd == "" and $root == "" and $env.LOCALPORT_DIFF? != null {
    $why = "inherited"
  }
  if $why == "" and $root != "" { $why = (__localport_compare) }
  if $why == "" and $state.uses != [] {
    let used = (__localport_used $state.uses)
    if $used != $state.used { $why = $"variables ($used | to nuon)" }
  }
  if $why == "" and $root != "" {
    let tools = (__localport_tools)
    if $tools != $state.tools { $why = $"tools ($tools)" }
  }
  if $why == "" and $state.wait != 0 {
    if $state.code == 0 {
      $env.__localport.wait = 0
    } else if (__localport_is_due) {
      $why = "again"
    }
  }
  if $why == "" {
    $env.__localport.tried = ""
  } else {
    __localport_export $why $root
  }
}

def --env __localport_prompt [] {
  let status = $env.LAST_EXIT_CODE?
  __localport_check
  if $status != null { $env.LAST_EXIT_CODE = $status }
  __localport_be_last
}

# From the second prompt on, the hook runs after others, so that it sees what they have set; what those after it have set at the first one,
# it sees before the command runs. A hook that is text is run in the shell's own
# scope, and can be compared: the file may be read twice.
def --env __localport_be_last [] {
  let hooks = ($env.config.hooks.pre_prompt? | default [])
  if ($hooks | is-empty) or ($hooks | last) != "__localport_prompt" {
    $env.config.hooks.pre_prompt = ($hooks | where {|hook| $hook != "__localport_prompt" } | append "__localport_prompt")
    if "__localport_prompt" in $hooks {
      $env.config.hooks.pre_execution = ($env.config.hooks.pre_execution? | default [] | append "__localport_command")
    }
  }
}
def --env __localport_command [] {
  $env.config.hooks.pre_execution = ($env.config.hooks.pre_execution | where {|hook| $hook != "__localport_command" })
  __localport_check
}
__localport_be_last
