/* Puts something that cannot be written to in the place of a stdout that is closed.
 *
 * Rust's runtime opens /dev/null for reading and writing there before main begins, and others
 * open it like that on purpose (Python's DEVNULL, for one): afterwards nobody can tell which it
 * was. This runs before the runtime. What it opens is refused by the worker, with a message.
 */
#include <fcntl.h>
#include <unistd.h>

__attribute__((constructor)) static void stand_in_for_a_closed_stdout(void)
{
    int fd = 0;

    /* The lowest free number comes first: stdin's, when that is closed too. */
    while (fcntl(STDOUT_FILENO, F_GETFD) == -1 && fd != -1 && fd < STDOUT_FILENO)
        fd = open("/dev/null", O_RDONLY);
}
