# LocalPort's hook for tcsh, 6.23 and newer: eval "`localport hook tcsh`"
#
# A prompt where nothing changed starts no process. It is code for eval, because tcsh has no functions; the line above stores it in
# __localport_check. What tcsh cannot do:
# - look at a cd before the next prompt: cwdcmd runs in subshells too, where $$ is still the shell's;
# - tell files that changed within one second of the last export, unless their size or inode changed: it compares whole seconds;
# - without /proc: notice at once that the supervisor was killed; it takes a second prompt;
# - undo what another hook puts back after leaving a project;
# - read the output of a program that is longer than some thousand bytes and not in the locale's encoding: the values may be wrong;
# - be installed a second time after another precmd: the line belongs at the end of ~/.tcshrc. An alias precmd from before is kept.
# An error in precmd would remove the alias, also the user's: no variable here may be undefined.
#
# `localport export` sets __localport_root, _dir, _line, _told, _retry, _variables, _unfinished and _diff; none is exported. It redefines the alias __localport_used.

if (! $?__localport_tries) then
  set __localport_root = "" # the project that this shell is in
  set __localport_dir = "" # where LocalPort keeps what prompts compare with
  set __localport_line = "" # the line in $__localport_dir/prompt, at the last export
  set __localport_told = "" # hash of the error that this shell last printed
  set __localport_retry = "" # what `localport export` has to retry; it is passed back
  set __localport_diff = "" # a copy of LOCALPORT_DIFF
  set __localport_variables = "" # the names of the project's variables in this shell
  set __localport_unfinished = "" # directories, each with a newline, of exports that may have entered a project before they were interrupted
  set __localport_missing = 0 # 1: the message about the missing program has been shown
  set __localport_pwd = "" # the directory of the last prompt; empty before the first
  set __localport_uses = 0 # 1 if [env] uses variables, 2 if they are new: the alias __localport_used sets __localport_now to their values
  set __localport_seen = "" # their values at the last export
  set __localport_files = ( -1 -1 -1 -1 -1 -1 ) # inode and size of the project's three files at the last export
  set __localport_alive = -1 # the age of /proc/PID at the last export
  set __localport_gone = "" # without /proc: the line whose process was not found at the last prompt
  set __localport_tried = "" # the last reason for an export, and how many exports did not resolve it
  set __localport_code = 0 # exit status of the last export
  set __localport_wait = 0 # seconds until it is repeated; 0: it is not repeated
  set __localport_since = 0 # when it ran
  set __localport_tries = 0
endif
if (! $?__localport_tools) set __localport_tools = "" # what direnv had changed at the last export

set __localport_why = "" # why this prompt must run an export; empty if it need not
set __localport_last = "$__localport_pwd:q"
set __localport_pwd = "$cwd:q"
# Walk up: a config may have appeared above or between. ./.. is physical, like the project's root.
set __localport_at = .
set __localport_found = ""
while ("$__localport_found" == "" && -e "$__localport_at")
  if (-e "$__localport_at/.localport.toml") then
    set __localport_found = project
  else if (-I "$__localport_at" == -I / && -D "$__localport_at" == -D /) then
    set __localport_found = none
  else
    set __localport_at = "$__localport_at/.."
  endif
end
if ("$__localport_found" == project) then
  if ("$__localport_root:q" == "") then
    set __localport_why = "enter $__localport_at $cwd:q"
  else if (-I "$__localport_at" != -I "$__localport_root:q" || -D "$__localport_at" != -D "$__localport_root:q") then
    set __localport_why = "enter $__localport_at $cwd:q"
    # so that the reason differs when the directory is back
    if (-I . != -I "$cwd:q" || -D . != -D "$cwd:q") set __localport_why = "enter moved $cwd:q"
  endif
else if ("$__localport_root:q" != "") then
  set __localport_why = "leave $cwd:q"
else if ("$__localport_last:q" != "$cwd:q" && "$__localport_unfinished:q" != "") then
  set __localport_why = "leave $cwd:q"
else if ("$__localport_last:q" == "" && $?LOCALPORT_DIFF) then
  set __localport_why = inherited
endif

# Compare the project with its state at the last export: the line, the files, and whether the supervisor still runs.
if ("$__localport_why:q" == "" && "$__localport_root:q" != "") then
  if ("$__localport_dir:q" == "") then
    if (! -e "${__localport_root:q}/.localport.toml") set __localport_why = "file $cwd:q"
  else
    if (! -f "${__localport_dir:q}/prompt") then
      if ("$__localport_line" != "") set __localport_why = "no line $cwd:q"
    else if (-L "${__localport_dir:q}/prompt.link" != "$__localport_line" && -L "${__localport_dir:q}/prompt.link" != -1) then
      # tcsh cannot store the target of a link; these numbers tell one reason from the next.
      @ __localport_now = -I "${__localport_dir:q}/prompt.link"
      set __localport_why = "line $__localport_now"
      @ __localport_now = -I "${__localport_dir:q}/prompt"
      set __localport_why = "$__localport_why $__localport_now"
      @ __localport_now = -M "${__localport_dir:q}/prompt"
      set __localport_why = "$__localport_why $__localport_now $cwd:q"
    endif
    if ("$__localport_why:q" != "") then
    else if (-M "${__localport_root:q}/.localport.toml" != -M "${__localport_dir:q}/stamp.config" \
        || -M "${__localport_root:q}/.localport.local.toml" != -M "${__localport_dir:q}/stamp.local" \
        || -M "${__localport_root:q}/.env" != -M "${__localport_dir:q}/stamp.env") then
      set __localport_why = "file $cwd:q"
    else if (-I "${__localport_root:q}/.localport.toml" != $__localport_files[1] || -Z "${__localport_root:q}/.localport.toml" != $__localport_files[2] \
        || -I "${__localport_root:q}/.localport.local.toml" != $__localport_files[3] || -Z "${__localport_root:q}/.localport.local.toml" != $__localport_files[4] \
        || -I "${__localport_root:q}/.env" != $__localport_files[5] || -Z "${__localport_root:q}/.env" != $__localport_files[6]) then
      set __localport_why = "file $cwd:q"
    endif
    # The pid is the second word of the line. A zombie has no exe. tcsh cannot read a start time, but /proc/PID is as old as its first use:
    # if it is younger than at the last export, another process may have the pid, and an export tells.
    set __localport_words = ( $__localport_line 0 0 )
    if ("$__localport_why:q" == "" && "$__localport_words[2]" != 0) then
      if (-e /proc/$$/exe) then
        @ __localport_now = -M /proc/$__localport_words[2]
        if (! -e /proc/$__localport_words[2]/exe || $__localport_now != $__localport_alive) then
          set __localport_why = "gone $__localport_line $__localport_now $cwd:q"
        endif
      else if ("$__localport_gone" == "$__localport_line") then
        set __localport_why = "gone $__localport_line $cwd:q"
      else
        # A kill that fails ends this code: the next prompt finds the line.
        set __localport_gone = "$__localport_line"
        kill -0 $__localport_words[2] >& /dev/null
        set __localport_gone = ""
      endif
    endif
  endif
endif

if ("$__localport_why:q" == "" && $__localport_uses) then
  __localport_used
  if ("$__localport_now:q" != "$__localport_seen:q") set __localport_why = "variables $__localport_now:q"
endif
set __localport_now = ""
if ($?DIRENV_DIFF) then
  set __localport_now = "$DIRENV_DIFF:q"
endif
if ("$__localport_why:q" == "" && "$__localport_root:q" != "" && "$__localport_now:q" != "$__localport_tools:q") then
  set __localport_why = "tools $__localport_now:q"
endif

# If an export fails once, or does not resolve the reason three times (something may have changed meanwhile), it is repeated after
# 5, 10, … 60 s with a limit of 200 ms. Status 3 and 4, a config that is invalid or not allowed, are final: the hook detects what changes
# them. The time is that of the terminal's last output, which the kernel counts in steps of 8 s.
if ("$__localport_why:q" == "" && $__localport_wait != 0) then
  @ __localport_now = -M /dev/$tty
  if ("$__localport_code" == 0) then
    set __localport_wait = 0
  else if ("$__localport_code" == missing) then
    set __localport_why = again
  else if ($__localport_now < $__localport_since || $__localport_now >= $__localport_since + $__localport_wait) then
    set __localport_why = again
  endif
endif
set __localport_limit = ""
set __localport_run = 0
if ("$__localport_why:q" == "") then
  set __localport_tried = ""
else
  # localport: at the path that the hook was installed with or, if an upgrade has removed that, the first one in PATH.
  set __localport_program = "$__localport_exe:q"
  if (! -x "$__localport_program:q") then
    set __localport_program = ""
    foreach __localport_at ( $path:q )
      if ("$__localport_program:q" == "" && "$__localport_at:q" =~ /* && -f "$__localport_at:q/localport" && -x "$__localport_at:q/localport") set __localport_program = "$__localport_at:q/localport"
    end
  endif
  if ("$__localport_program:q" == "") then
    # Say so once. The next prompts look for it, without a process.
    set __localport_code = missing
    set __localport_wait = 1
    set __localport_tries = 0
    if (! $__localport_missing) then
      set __localport_missing = 1
      if ("$__localport_root:q" == "") then
        echo "localport: cannot run $__localport_exe:q, and PATH has no localport: the services of this directory are not started"
        echo "hint: install localport again in a directory of PATH"
      else
        echo "localport: cannot run $__localport_exe:q, and PATH has no localport: this shell keeps the variables and forwards of $__localport_root:q"
        set __localport_now = ""
        foreach __localport_at ( $__localport_variables LOCALPORT_DIFF )
          set __localport_now = "$__localport_now unsetenv $__localport_at;"
        end
        echo "hint: install localport again; or undo by hand:$__localport_now:q the forwards end when the last shell that uses them exits"
      endif
    endif
  else
    set __localport_missing = 0
    set __localport_run = 1
  endif
endif
if ($__localport_run) then
  if ("$__localport_why:q" == again && "$__localport_code" != missing) set __localport_limit = --limit=200ms
  if ("$__localport_why:q" != "$__localport_tried:q") then
    set __localport_tried = "$__localport_why:q"
    set __localport_tries = 0
  endif
  if ($__localport_tries == 3) then
    @ __localport_now = -M /dev/$tty
    if ($__localport_wait == 0 || $__localport_now >= $__localport_since && $__localport_now < $__localport_since + $__localport_wait) set __localport_run = 0
    set __localport_limit = --limit=200ms
  endif
endif
if ($__localport_run) then
  # An interrupt ends this code: what follows is as after a failure, until the status is known.
  set __localport_earlier = ()
  if ("$__localport_unfinished:q" != "") set __localport_earlier = ( "--unfinished=$__localport_unfinished:q" )
  set __localport_unfinished = "$__localport_unfinished:q$cwd:q"$'\n'
  set __localport_before = $__localport_tries
  set __localport_tries = 3
  set __localport_code = 1
  set __localport_gone = ""
  set __localport_last = $__localport_wait
  if ($__localport_wait == 0) set __localport_wait = 5
  @ __localport_since = -M /dev/$tty
  set __localport_prints = $?printexitvalue
  unset printexitvalue
  set __localport_out = ( "`__localport_call`" ) # one word for each line
  set __localport_code = $status
  if ($__localport_prints) set printexitvalue
  if ($__localport_code == 0 && $__localport_before < 2) then
    @ __localport_tries = $__localport_before + 1
    set __localport_wait = 0
  else if ($__localport_code == 3 || $__localport_code == 4) then
    set __localport_wait = 0
  else
    @ __localport_wait = $__localport_last + 5
    if ($__localport_wait > 60) set __localport_wait = 60
  endif
  eval "$__localport_out:q"
  set __localport_tools = ""
  if ($?DIRENV_DIFF) then
    set __localport_tools = "$DIRENV_DIFF:q"
  endif
  # also if an older localport does not set it
  if ($__localport_code == 0 || $__localport_code == 3 || $__localport_code == 4) set __localport_unfinished = ""
  if ($__localport_uses == 2) then
    set __localport_uses = 1
    __localport_used
    set __localport_seen = "$__localport_now:q"
  endif
  # Status 3 and 4 are not final if the directory was moved meanwhile: when it is moved back, the reason is the same, and must count again.
  if ($__localport_code == 3 || $__localport_code == 4) then
    if ("$__localport_why:q" =~ "enter moved "*) then
    else if (-I . != -I "$cwd:q" || -D . != -D "$cwd:q") then
      set __localport_tried = ""
    else if ("$__localport_root:q" != "" && ! -e "$__localport_root:q") then
      set __localport_tried = ""
    endif
  endif
  @ __localport_files[1] = -I "${__localport_root:q}/.localport.toml"
  @ __localport_files[2] = -Z "${__localport_root:q}/.localport.toml"
  @ __localport_files[3] = -I "${__localport_root:q}/.localport.local.toml"
  @ __localport_files[4] = -Z "${__localport_root:q}/.localport.local.toml"
  @ __localport_files[5] = -I "${__localport_root:q}/.env"
  @ __localport_files[6] = -Z "${__localport_root:q}/.env"
  # Another edit is the same reason as this one, if this one has been seen.
  if ("$__localport_why:q" =~ "file "* && ("$__localport_code" == 0 || "$__localport_code" == 3 || "$__localport_code" == 4)) then
    if (-M "${__localport_root:q}/.localport.toml" == -M "${__localport_dir:q}/stamp.config" \
        && -M "${__localport_root:q}/.localport.local.toml" == -M "${__localport_dir:q}/stamp.local" \
        && -M "${__localport_root:q}/.env" == -M "${__localport_dir:q}/stamp.env") set __localport_tried = ""
  endif
  set __localport_words = ( $__localport_line 0 0 )
  @ __localport_alive = -M /proc/$__localport_words[2]
endif
