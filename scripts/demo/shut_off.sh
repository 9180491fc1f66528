# An act of the demonstration, sourced by demo.sh: a source that enough verified owners discard is shut off for everyone, is
# told so, and is let back by the operator.

say "Three owners discard the attacker: the router shuts it off for everyone"
behind attacker alert.log socat -u "UDP-RECV:7402,bind=$attacker" STDOUT
claim "before, the attacker reaches a fourth owner, who has no program" reaches attacker "${friends[2]}"
for owner in "$victim" "${friends[0]}" "${friends[1]}"; do
  typed victim "vinet firewall --block $attacker --lifetime 5m --router $router      # as $owner"
  must "$owner could not install its firewall" at victim "$vinet" firewall --block "$attacker" --lifetime 5m --router "$router" --identity "$work/$owner.key" --authority "$work/authority.pub"
done
shut() { "$vinetd" ctl --socket "$work/demo.sock" shut-offs | grep -q "$attacker"; }
claim "the router shuts the source off" within 5 shut
claim "now the attacker does not reach the fourth owner either" within 3 no reaches attacker "${friends[2]}"
claim "the lawful sender still does" reaches lawful "${friends[2]}"
alerted() { grep -qa "^VInetAlt" "$work/alert.log"; }
claim "the attacker's machine has been told, in a datagram that the router signed" within 3 alerted
typed router "vinetd ctl let-back $attacker"
claim "the operator lets it back" "$vinetd" ctl --socket "$work/demo.sock" let-back "$attacker" >"$work/let-back" 2>&1
claim "and it reaches the fourth owner again" within 5 reaches attacker "${friends[2]}"
claim "but not those who discard it" no reaches attacker "$victim"
