# LocalPort's hook for bash, 3.2 and newer: eval "$(localport hook bash)"
#
# A prompt where nothing changed starts no process: it reads one line and compares the ages of files, with builtins
# only. bash has no event for cd, so that of two cds in one command line only the last directory is seen. Before bash 4.3,
# ages are compared in whole seconds.
#
# The line above sets __localport_exe. `localport export` sets the first four variables below and __localport_retry; none
# is exported. \builtin, because a user may have an alias or a function of that name.

# shellcheck disable=SC2154 # __localport_exe
if [[ ${__localport_shell-} != "$$" ]]; then
  __localport_root='' # the project that this shell is in
  __localport_dir=''  # where LocalPort keeps what prompts compare with
  __localport_line='' # the line in $__localport_dir/prompt, at the last export
  __localport_told='' # hash of the error that this shell last printed
  __localport_pwd=''  # the directory of the last prompt; '' before the first
  __localport_why=''  # why this prompt must run an export; '' if it need not
  __localport_tried='' # the last reason for an export, and how many exports did not resolve it
  __localport_tries=0
  __localport_alive='' # the line whose process was last found alive
  __localport_wait=''
  __localport_shell=$$
fi
if [[ -z ${__localport_wait-} ]]; then # also if an older hook set the others
  __localport_retry='' # what `localport export` has to retry; it is passed back
  __localport_code=0   # exit status of the last export
  __localport_wait=0   # seconds until it is repeated; 0: it is not repeated
  __localport_since=0  # when it ran, in $SECONDS
fi

__localport_prompt() {
  \builtin local __localport_status="$?"
  if [[ $BASH_SUBSHELL == 0 ]]; then
    __localport_check || : # as a condition, so that set -e does not count in it
    [[ $- != *a* ]] || __localport_unexport
  fi
  [[ $- == *e* ]] || \builtin return "$__localport_status"
}

__localport_check() {
  __localport_why=''
  if ! \builtin [ "${PWD-}" = "$__localport_pwd" ]; then
    __localport_find_root
  elif [[ -e ./.localport.toml && ! . -ef $__localport_root ]]; then
    __localport_why="enter $PWD"
    [[ . -ef $PWD ]] || __localport_why="enter moved $PWD" # so that the reason differs when the directory is back
  fi
  if [[ -z $__localport_why && -n $__localport_root ]]; then
    __localport_compare
  fi
  if [[ -z $__localport_why && $__localport_wait != 0 ]]; then
    if [[ $__localport_code == 0 ]]; then
      __localport_wait=0 # it resolved the reason
    elif __localport_is_due; then
      __localport_why=again
    fi
  fi
  if [[ -z $__localport_why ]]; then
    __localport_tried=''
  else
    __localport_export
  fi
}

# __localport_find_root walks up from a new directory. ./.. is physical, like the project's root.
__localport_find_root() {
  \builtin local __localport_at=. __localport_last="$__localport_pwd"
  __localport_pwd=${PWD-}
  while [[ -e $__localport_at ]]; do
    if [[ -e $__localport_at/.localport.toml ]]; then
      [[ $__localport_at -ef $__localport_root ]] || __localport_why="enter ${PWD-}"
      \builtin return
    fi
    [[ ! $__localport_at -ef / ]] || \builtin break
    __localport_at+=/..
  done
  if [[ -n $__localport_root ]]; then
    __localport_why="leave $__localport_pwd"
  elif [[ -z $__localport_last && -n ${LOCALPORT_DIFF-} ]]; then
    __localport_why=inherited
  fi
}

# __localport_compare compares the project with its state at the last export: the line "N PID START", the files, and
# whether the process PID still runs. Without locals: they cost more than what they hold.
__localport_compare() {
  \builtin local IFS=' '
  if [[ -z $__localport_dir ]]; then
    [[ -e $__localport_root/.localport.toml ]] || __localport_why="file $PWD"
    \builtin return
  fi
  __localport_now='' __localport_pid='' __localport_start=''
  if [[ -f $__localport_dir/prompt ]]; then
    \builtin read -r __localport_now __localport_pid __localport_start <"$__localport_dir/prompt"
  fi
  if [[ ${__localport_now:+$__localport_now $__localport_pid $__localport_start} != "$__localport_line" ]]; then
    __localport_why="line $__localport_now $PWD"
    \builtin return
  fi

  # In bash a missing file is older than any other: this also tells what appeared and what vanished.
  if [[ $__localport_root/.localport.toml -nt $__localport_dir/stamp.config ||
    $__localport_root/.localport.toml -ot $__localport_dir/stamp.config ||
    $__localport_root/.localport.local.toml -nt $__localport_dir/stamp.local ||
    $__localport_root/.localport.local.toml -ot $__localport_dir/stamp.local ||
    $__localport_root/.env -nt $__localport_dir/stamp.env ||
    $__localport_root/.env -ot $__localport_dir/stamp.env ]]; then
    __localport_why="file $PWD"
    \builtin return
  fi

  # The process of this line was alive before, and no other has had its pid since: /proc/PID is as old as its
  # first use. A zombie has no exe.
  [[ $__localport_line != "$__localport_alive" || /proc/$__localport_pid -nt $__localport_dir/prompt ||
    ! -e /proc/$__localport_pid/exe ]] || \builtin return
  [[ $__localport_pid == [1-9]* ]] || \builtin return
  if __localport_is_alive 2>/dev/null; then
    __localport_alive=$__localport_line
  else
    __localport_why="gone $__localport_line $PWD"
  fi
}

# __localport_is_alive tells whether the process __localport_pid runs, and started at __localport_start. That
# is field 22 of /proc/PID/stat: 19 fields between it and field 2, a name in parentheses that may hold anything. Field
# 3 is the state.
__localport_is_alive() {
  if [[ ! -e /proc/$$/stat ]]; then
    \builtin kill -0 "$__localport_pid"
    \builtin return
  fi
  __localport_now=''
  \builtin read -r -d '' __localport_now <"/proc/$__localport_pid/stat"
  __localport_now=${__localport_now%% "$__localport_start" *}
  while [[ $__localport_now == *')'* ]]; do
    __localport_now=${__localport_now#*)}
  done
  # shellcheck disable=SC2086 # to be split, at IFS
  \builtin set -- $__localport_now
  [[ $# == 19 && $1 != [ZX] ]]
}

# __localport_is_due tells whether a failed export is to be repeated now, also if the clock was set back.
__localport_is_due() {
  [[ ${SECONDS-0} -lt $__localport_since || ${SECONDS-0} -ge $((__localport_since + __localport_wait)) ]]
}

# __localport_export runs `localport export`. If that fails once, or does not resolve the reason three times (something may
# have changed meanwhile), it is repeated after 5, 10, … 60 s with a limit of 200 ms. Status 3 and 4, a config that is
# invalid or not allowed, are final: the hook detects what changes them.
__localport_export() {
  \builtin local __localport_out='' __localport_again=''
  if [[ $__localport_why != "$__localport_tried" ]]; then
    __localport_tried=$__localport_why
    __localport_tries=0
  fi
  [[ -x $__localport_exe ]] || \builtin return
  if [[ $__localport_tries == 3 ]]; then
    [[ $__localport_wait != 0 ]] && __localport_is_due || \builtin return
    __localport_again=1
  fi
  [[ $__localport_why != again ]] || __localport_again=1
  __localport_code=0
  [[ $- != *a* ]] || __localport_unexport
  __localport_out=$(\builtin exec "$__localport_exe" export bash --pid "$$" \
    --root "$__localport_root" --line "$__localport_line" --told "$__localport_told" --retry "$__localport_retry" \
    ${__localport_again:+"--limit=200ms"} </dev/null) || __localport_code=$?
  if [[ $__localport_code == 0 && $__localport_tries -lt 2 ]]; then
    __localport_tries=$((__localport_tries + 1))
    __localport_wait=0
  elif [[ $__localport_code == [34] ]]; then
    __localport_tries=3
    __localport_wait=0
  else
    __localport_tries=3
    __localport_wait=$((__localport_wait < 60 ? __localport_wait + 5 : 60))
    __localport_since=${SECONDS-0}
  fi
  \builtin eval "$__localport_out"
  # Nor is it final if the directory was moved meanwhile: when it is back, that is the same reason.
  [[ $__localport_code != [34] || $__localport_why == 'enter moved '* || . -ef $PWD && ( -z $__localport_root || -e $__localport_root ) ]] || __localport_tried=''
}

# __localport_unexport removes our variables from the environment, to which set -a adds whatever is assigned.
__localport_unexport() {
  \builtin export -n "${!__localport_@}"
}

# First, so that other prompt hooks see the project's variables; in element 0 if it is an array. bash-preexec keeps
# what it finds there if it is loaded later.
if [[ ${PROMPT_COMMAND[*]-}${precmd_functions[*]-} != *__localport_prompt* ]]; then
  if [[ -n ${bash_preexec_imported-}${__bp_imported-} ]]; then
    precmd_functions=(__localport_prompt ${precmd_functions[@]+"${precmd_functions[@]}"})
  else
    # shellcheck disable=SC2178,SC2128 # element 0
    PROMPT_COMMAND="__localport_prompt${PROMPT_COMMAND:+;$PROMPT_COMMAND}"
  fi
fi

__localport_unexport # also those inherited from a parent
if [[ $- == *a* ]]; then
  \builtin export -n PROMPT_COMMAND
  \builtin export -fn __localport_prompt __localport_check __localport_find_root __localport_compare __localport_is_alive \
    __localport_is_due __localport_export __localport_unexport
fi
