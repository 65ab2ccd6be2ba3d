/*
 * Shows what Saccade found on the slide that is open in QuPath: the tiles that the model read, as
 * tile objects with measurements, and its attention as a coloured overlay.
 *
 * Open the slide, then Automate > Script editor, open this file there and run it. It asks for the
 * folder of this slide's results, the one that holds attention.geojson. To be asked no more, write
 * the folder below, with forward slashes.
 */
import java.awt.image.BufferedImage
import javafx.application.Platform
import qupath.fx.dialogs.FileChoosers
import qupath.lib.gui.viewer.overlays.BufferedImageOverlay
import qupath.lib.images.servers.ImageServers
import qupath.lib.regions.ImageRegion
import qupath.lib.regions.RegionRequest

String resultsFolder = null

if (getCurrentImageData() == null) {
    println 'Saccade: open the slide first, then run this script again.'
    return
}

File folder = resultsFolder != null ? new File(resultsFolder)
        : FileChoosers.promptForDirectory('Folder of results of this slide', null)
if (folder == null)
    return

importTiles(new File(folder, 'attention.geojson'))
showAttention(new File(folder, 'attention.ome.tif'))

void importTiles(File file) {
    if (!file.exists()) {
        println "Saccade: no ${file}; choose the folder that holds attention.geojson."
        return
    }
    // A second run replaces the tiles of the first.
    def earlier = getCurrentHierarchy().getFlattenedObjectList(null)
            .findAll { it.isTile() && it.getName() ==~ /tile \d+/ }
    removeObjects(earlier, true)
    importObjectsFromFile(file.getAbsolutePath())
    println "Saccade: tiles imported from ${file}."
}

void showAttention(File file) {
    if (!file.exists()) {
        println "Saccade: no ${file}, so no overlay."
        return
    }
    def heatmap = ImageServers.buildServer(file.toURI())
    int cols = heatmap.getWidth(), rows = heatmap.getHeight()
    def request = RegionRequest.createInstance(heatmap.getPath(), 1.0d, 0, 0, cols, rows)
    float[] attention = heatmap.readRegion(request).getRaster().getSamples(0, 0, cols, rows, 0, new float[cols * rows])
    heatmap.close()

    // Where the cells lie on the slide stands in the OME-XML, near the beginning of the file.
    String xml = file.getText('ISO-8859-1')
    double width = cellNumber(xml, 'cell_width_l0'), height = cellNumber(xml, 'cell_height_l0')
    def region = ImageRegion.createInstance(
            (int) Math.round(cellNumber(xml, 'origin_x_l0')), (int) Math.round(cellNumber(xml, 'origin_y_l0')),
            (int) Math.round(cols * width), (int) Math.round(rows * height), 0, 0)

    def picture = new BufferedImage(cols, rows, BufferedImage.TYPE_INT_ARGB)
    picture.setRGB(0, 0, cols, rows, colours(attention), 0, cols)
    def viewer = getCurrentViewer()
    def overlay = new BufferedImageOverlay(viewer.getOverlayOptions(), region, picture)
    Platform.runLater { viewer.getCustomOverlayLayers().setAll(overlay) }
    println 'Saccade: attention shown. View > Show pixel classification (key C) hides and shows it.'
}

double cellNumber(String xml, String key) {
    def found = xml =~ /K="${key}">([-+.0-9eE]+)</
    if (!found.find())
        throw new IllegalArgumentException("${key} is missing: this heatmap was not written by Saccade")
    return found.group(1) as double
}

/* The colours of attention.png: attention relative to its mean over the tissue, linear up to 1 and
 * logarithmic above, the more transparent the weaker. Cells outside the tissue hold 0. */
int[] colours(float[] attention) {
    double sum = 0, largest = 0
    int count = 0
    for (float value : attention) {
        if (value > 0) {
            sum += value
            largest = Math.max(largest, value)
            count++
        }
    }
    double mean = count > 0 ? sum / count : 1
    double top = asinh(Math.max(10d, largest / mean))
    int[] argb = new int[attention.length]
    for (int i = 0; i < attention.length; i++) {
        if (attention[i] > 0) {
            double strength = asinh(attention[i] / mean) / top
            int alpha = (int) Math.round(255 * (0.1 + 0.65 * Math.sqrt(strength)))
            argb[i] = (alpha << 24) | inferno(strength)
        }
    }
    return argb
}

double asinh(double x) {
    return Math.log(x + Math.sqrt(x * x + 1))
}

int inferno(double strength) {
    int[][] stops = [[7, 5, 27], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]]
    double place = Math.min(Math.max(strength, 0d), 1d) * (stops.length - 1)
    int low = Math.min((int) place, stops.length - 2)
    int rgb = 0
    for (int c = 0; c < 3; c++)
        rgb = (rgb << 8) | (int) Math.round(stops[low][c] + (place - low) * (stops[low + 1][c] - stops[low][c]))
    return rgb
}
