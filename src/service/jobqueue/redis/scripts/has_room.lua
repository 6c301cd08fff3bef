#!lua
-- Finds out whether Redis has memory for another job, without appending one.
--
-- KEYS[1] stream
-- Returns 0, or the error OOM.
--
-- It does nothing. It has no flags, so Redis refuses it for the reasons for which it would
-- refuse XADD, and looks at its memory first. The key only says which cluster slot to ask.

return 0
