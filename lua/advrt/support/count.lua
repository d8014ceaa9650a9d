--- A number with what it counts, in the singular or the plural.
--
--     count(1, "attack") -> "1 attack"     count(2, "loss", "losses") -> "2 losses"

return function(n, one, many) return ("%d %s"):format(n, n == 1 and one or many or one .. "s") end
