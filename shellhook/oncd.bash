
# localport hook bash --on-cd: cd, pushd and popd enter and leave projects at once, so that in "cd p && make" the project of p is ready.

# __localport_after_cd is called after a cd that succeeded. Only one that the user typed counts: not one in a function, a script, a
# subshell, or a key binding, where the user edits a line.
__localport_after_cd() {
  [[ ${#FUNCNAME[@]} == 2 && $BASH_SUBSHELL == 0 && $- == *i* && -z ${READLINE_LINE+x} && ${PWD-} != "$__localport_pwd" ]] || \return 0
  \local __localport_at_cd=1
  if [[ $- == $__localport_options ]]; then
    { \local -; \set +aETuvx; } 2>/dev/null
  fi
  __localport_run || :
  [[ $- != *a* ]] || __localport_unexport
}

# __localport_wrap NAME defines the function. A function of the user is not replaced, which is said once.
__localport_wrap() {
  if \builtin declare -F "$1" >/dev/null && [[ $(\builtin declare -f "$1") != *__localport_after_cd* ]]; then
    [[ " ${__localport_not_wrapped-} " == *" $1 "* ]] ||
      \builtin printf '%s\n' "localport: $1 is a function of yours and stays as it is: after $1, the project is entered at the next prompt" >&2
    __localport_not_wrapped="${__localport_not_wrapped-} $1"
    \return 0
  fi
  \builtin eval "function $1 { \\builtin $1 \"\$@\" || \\return; __localport_after_cd; }"
  [[ $- != *a* ]] || \builtin export -fn "$1"
}

if [[ $- == *i* ]]; then
  __localport_wrap cd
  __localport_wrap pushd
  __localport_wrap popd
  if [[ $- == *a* ]]; then
    \builtin export -fn __localport_after_cd __localport_wrap
    __localport_unexport
  fi
fi
