# LocalPort's hook for bash, 3.2 and newer: eval "$(localport hook bash)"
#
# A prompt where nothing changed starts no process: it reads one line and compares the ages of files, with builtins
# only. bash has no event for cd, so that of two cds in one command line only the last place is seen. Before bash 4.3,
# ages are compared in whole seconds.
#
# The line above sets __localport_exe. `localport export` sets the first four variables below and __localport_retry; none
# is exported. \builtin, because a user may have an alias or a function of that name.

# shellcheck disable=SC2154 # __localport_exe
if [[ ${__localport_shell-} != "$$" ]]; then
  __localport_root='' # the project that this shell is in
  __localport_dir=''  # where LocalPort keeps what prompts compare with
  __localport_line='' # the line in $__localport_dir/prompt, as last looked at
  __localport_told='' # what this shell was told already
  __localport_pwd=''  # where the last prompt was; '' before the first
  __localport_why=''  # why this prompt has to look; '' if it need not
  __localport_tried='' # the last reason to look, and how often looking did not settle it
  __localport_tries=0
  __localport_alive='' # the line whose process was last found alive
  __localport_wait=''
  __localport_shell=$$
fi
if [[ -z ${__localport_wait-} ]]; then # also where an older hook set the others
  __localport_retry='' # what `localport export` still has to do; it is handed back
  __localport_code=0   # status of the last look
  __localport_wait=0   # after how many seconds it is repeated; 0: it is not
  __localport_since=0  # when it was made, by $SECONDS
fi

__localport_prompt() {
  \builtin local __localport_status="$?"
  if [[ $BASH_SUBSHELL == 0 ]]; then
    __localport_check || : # as a condition, so that set -e does not count in it
    [[ $- != *a* ]] || __localport_private
  fi
  [[ $- == *e* ]] || \builtin return "$__localport_status"
}

__localport_check() {
  __localport_why=''
  if ! \builtin [ "${PWD-}" = "$__localport_pwd" ]; then
    __localport_moved
  elif [[ -e ./.localport.toml && ! . -ef $__localport_root ]]; then
    __localport_why="enter $PWD"
    [[ . -ef $PWD ]] || __localport_why="enter moved $PWD" # or the reason is the same when it is back
  fi
  if [[ -z $__localport_why && -n $__localport_root ]]; then
    __localport_stale
  fi
  if [[ -z $__localport_why && $__localport_wait != 0 ]]; then
    if [[ $__localport_code == 0 ]]; then
      __localport_wait=0 # it did settle it
    elif __localport_due; then
      __localport_why=again
    fi
  fi
  if [[ -z $__localport_why ]]; then
    __localport_tried=''
  else
    __localport_look
  fi
}

# __localport_moved walks up from a new directory. ./.. is physical, like the project's root.
__localport_moved() {
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

# __localport_stale compares the project with what the last look saw of it: the line "N PID START", the files, and
# whether the process PID still runs. Without locals: they cost more than what they hold.
__localport_stale() {
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

  # A process of this line was found alive, and there has been no other by its number since: /proc/PID is as old as its
  # first use. A zombie has no exe.
  [[ $__localport_line != "$__localport_alive" || /proc/$__localport_pid -nt $__localport_dir/prompt ||
    ! -e /proc/$__localport_pid/exe ]] || \builtin return
  [[ $__localport_pid == [1-9]* ]] || \builtin return
  if __localport_lives 2>/dev/null; then
    __localport_alive=$__localport_line
  else
    __localport_why="gone $__localport_line $PWD"
  fi
}

# __localport_lives: does the process __localport_pid run, and is it the one that started at __localport_start? That
# is field 22 of /proc/PID/stat: 19 fields between it and field 2, a name in parentheses that may hold anything. Field
# 3 is the state.
__localport_lives() {
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

# __localport_due: is the last look to be repeated now? Also where the user has set the clock back.
__localport_due() {
  [[ ${SECONDS-0} -lt $__localport_since || ${SECONDS-0} -ge $((__localport_since + __localport_wait)) ]]
}

# __localport_look asks LocalPort. What that cannot settle, once if it failed, or three times if not (what it saw may have
# changed behind its back), is asked about again after 5, 10, … 60 s, for 200 ms at most. Status 3 and 4, a config that is
# invalid or not allowed, is an answer: what changes it is seen.
__localport_look() {
  \builtin local __localport_out='' __localport_again=''
  if [[ $__localport_why != "$__localport_tried" ]]; then
    __localport_tried=$__localport_why
    __localport_tries=0
  fi
  [[ -x $__localport_exe ]] || \builtin return
  if [[ $__localport_tries == 3 ]]; then
    [[ $__localport_wait != 0 ]] && __localport_due || \builtin return
    __localport_again=1
  fi
  [[ $__localport_why != again ]] || __localport_again=1
  __localport_code=0
  [[ $- != *a* ]] || __localport_private
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
}

# __localport_private takes our variables out of the environment, where set -a puts whatever is assigned.
__localport_private() {
  \builtin export -n "${!__localport_@}"
}

# First, so that the prompts of others see the project's variables; in element 0 if it is an array. bash-preexec takes
# along what it finds there if it is loaded later.
if [[ ${PROMPT_COMMAND[*]-}${precmd_functions[*]-} != *__localport_prompt* ]]; then
  if [[ -n ${bash_preexec_imported-}${__bp_imported-} ]]; then
    precmd_functions=(__localport_prompt ${precmd_functions[@]+"${precmd_functions[@]}"})
  else
    # shellcheck disable=SC2178,SC2128 # element 0
    PROMPT_COMMAND="__localport_prompt${PROMPT_COMMAND:+;$PROMPT_COMMAND}"
  fi
fi

__localport_private # also what a parent leaked
if [[ $- == *a* ]]; then
  \builtin export -n PROMPT_COMMAND
  \builtin export -fn __localport_prompt __localport_check __localport_moved __localport_stale __localport_lives \
    __localport_due __localport_look __localport_private
fi
