# Start-up file of the session's zsh, found through ZDOTDIR, with a nonce to read on fd 9. Like bashrc beside it:
# emulates a login, then marks prompts and commands by OSC 133 signed with the nonce.

IFS= read -r __tg_nonce 2>/dev/null <&9
exec 9<&-
unset ZDOTDIR

__tg_path=${PATH-}
[[ -r /etc/profile ]] && emulate sh -c '. /etc/profile'
for __tg_file in .zshenv .zprofile .zshrc .zlogin; do
    [[ -n ${HOME-} && -r $HOME/$__tg_file ]] && . "$HOME/$__tg_file"
done
# What the image put into PATH stays reachable, in front and in order.
__tg_keep=
for __tg_file in ${(s.:.)__tg_path}; do
    [[ ":${PATH-}:" == *":$__tg_file:"* ]] || __tg_keep+="$__tg_file:"
done
PATH="$__tg_keep${PATH-}"
unset __tg_file __tg_path __tg_keep

typeset -g __tg_a=$'%{\e]133;A;aid='"$__tg_nonce"$'\a%}' __tg_b=$'%{\e]133;B;aid='"$__tg_nonce"$'\a%}'

__tg_precmd() {
    builtin print -rn -- $'\e]133;D;'"$?;aid=$__tg_nonce"$'\a'
    [[ ${PS1-} == *"$__tg_b"* ]] || PS1="$__tg_a${PS1-}$__tg_b"
    return 0
}
__tg_preexec() {
    builtin print -rn -- $'\e]133;C;aid='"$__tg_nonce"$'\a'
    return 0
}
typeset -ga precmd_functions preexec_functions
precmd_functions=(__tg_precmd $precmd_functions)
preexec_functions+=(__tg_preexec)

unset zle_bracketed_paste
unsetopt prompt_sp # no inverse "%" and a row of blanks in front of each prompt
true
