# An act of the demonstration, sourced by demo.sh: two owners of the same program share what it costs the router.

say "Two owners want the same spam filter: the router runs one, and counts its load once"
taken() { "$vinetd" ctl --socket "$work/demo.sock" sessions | json cycles_per_second; }
filter() { at victim "$vinet" spam --word watches --word casino --lifetime 5m --router "$router" --json --identity "$work/$1.key" --authority "$work/authority.pub" >"$work/shared.$1" 2>&1; }
none=$(taken)
typed victim "vinet spam --word watches --word casino --lifetime 5m --router $router      # as $victim"
claim "the first owner's filter is installed" filter "$victim"
one=$(taken)
typed victim "vinet spam --word watches --word casino --lifetime 5m --router $router      # as ${friends[0]}"
claim "the second owner's is too" filter "${friends[0]}"
two=$(taken)
note "capacity taken, in cycles a second: $none without, $one with the first, $two with both"
claim "the first one takes capacity" above "${one:-0}" "${none:-0}"
claim "the second one takes none" [ "$one" = "$two" ]
gone() { at victim "$vinet" withdraw "$(json instance <"$work/shared.$victim")" --router "$router" "${as_victim[@]}" >/dev/null 2>&1; }
claim "the first owner withdraws" gone
# What each address answers, asked with both words.
answers() { [ "$(at attacker curl -s -o /dev/null -w '%{http_code}' --max-time 2 --user-agent "casino watches" "http://$1/")" = 200 ]; }
claim "its own mail with both words gets through again" answers "$victim"
claim "the second owner's filter goes on filtering" no answers "${friends[0]}"
at victim "$vinet" withdraw "$(json instance <"$work/shared.${friends[0]}")" --router "$router" --identity "$work/${friends[0]}.key" --authority "$work/authority.pub" >/dev/null 2>&1
claim "and when both are gone, all capacity is back" [ "$(taken)" = "$none" ]
